package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Detectors starts detectors of their own in views.
type Detectors interface {
	// Open starts the detector with the given id; spec says in which view.
	Open(ctx context.Context, id string, spec sandbox.Spec) (Detector, error)
}

// A Detector runs in a view.
type Detector interface {
	Scan(ctx context.Context) (ScanStream, error)
	Root() string                     // of the workspace, as the detector sees it
	Close() (*sandbox.Outcome, error) // ends it; the outcome is the caller's
}

// ScanStream is the host's side of one Scan call.
type ScanStream interface {
	Send(*pluginv1.ScanRequest) error
	CloseSend() error
	Recv() (*pluginv1.ScanResponse, error)
}

// A Gap is what a patch is to close.
type Gap struct {
	Detector  string // plugin id, "detector.docs"
	Workspace string // its name
	Rule      string
	Path      string
	Symbol    string // may be empty
	Message   string
	Severity  pluginv1.Severity
	// Walk is how the workspace is listed, as for every scan; MaxFileSize bounds
	// the files that are read.
	Walk        workspace.Options
	MaxFileSize int64
}

// GapEvidence is what the detector found in the place of a gap.
type GapEvidence struct {
	Detector string   `json:"detector"`
	Rule     string   `json:"rule"`
	Path     string   `json:"path"`
	Symbol   string   `json:"symbol,omitempty"`
	Wanted   int      `json:"wanted"` // gaps of the rule at the path that the patch is to close
	Before   int      `json:"before"` // findings of the rule at the path without the patch
	After    int      `json:"after"`
	New      []string `json:"new,omitempty"` // findings that are as severe and were not there before
}

const (
	gapTimeout = 15 * time.Minute
	// maxFindings bounds what one scan may report.
	maxFindings = 200_000
	maxNew      = 20
	batchFiles  = 1000
)

// gap runs each detector that found gaps without the patch and with it. What it
// found must be there before and not after, and nothing as bad may have come in
// the files that the patch touches.
func (w *work) gap(ctx context.Context) (*StepVerdict, error) { return w.ask(ctx, w.closes) }

// ask asks each detector about the gaps that it found, until one has something
// against the patch.
func (w *work) ask(ctx context.Context, about func(ctx context.Context, gaps []Gap, verdict *StepVerdict) error) (*StepVerdict, error) {
	verdict := &StepVerdict{}
	if w.verifier.Detectors == nil {
		verdict.Why = "there are no detectors to ask"
		return verdict, nil
	}
	ctx, cancel := context.WithTimeout(ctx, gapTimeout)
	defer cancel()
	for _, gaps := range byDetector(w.spec.Gaps) {
		if err := about(ctx, gaps, verdict); err != nil {
			return w.unanswered(ctx, verdict, err)
		}
		if verdict.Why != "" {
			return verdict, nil
		}
	}
	verdict.Passed = true
	return verdict, nil
}

// byDetector are the gaps of each detector.
func byDetector(gaps []Gap) [][]Gap {
	of := make(map[string][]Gap)
	for i := range gaps {
		of[gaps[i].Detector] = append(of[gaps[i].Detector], gaps[i])
	}
	var out [][]Gap
	for _, id := range sortedKeys(of) {
		out = append(out, of[id])
	}
	return out
}

// closes adds to a verdict whether the patch closes gaps of one detector.
func (w *work) closes(ctx context.Context, gaps []Gap, verdict *StepVerdict) error {
	files, err := w.files(ctx, &gaps[0])
	if err != nil {
		return err
	}
	before, err := w.look(ctx, &gaps[0], nil, "before", files, verdict)
	if err != nil {
		return err
	}
	after, err := w.look(ctx, &gaps[0], w.spec.Patch, "after", patched(files, w.spec.Patch.Set, time.Now()), verdict)
	if err != nil {
		return err
	}
	for i := range gaps {
		evidence := newEvidence(gaps, i, w.spec.Patch.Set, before, after)
		verdict.Gaps = append(verdict.Gaps, evidence)
		if verdict.Why == "" {
			verdict.Why = judgeGap(&gaps[i], w.spec.Patch.Set, before, after, &evidence)
		}
	}
	return nil
}

// files are those of the workspace, listed as for every scan.
func (w *work) files(ctx context.Context, g *Gap) ([]*pluginv1.ScanFile, error) {
	manifest, err := workspace.Walk(ctx, w.spec.Workspace, g.Walk)
	if err != nil {
		return nil, err
	}
	files := make([]*pluginv1.ScanFile, len(manifest.Files))
	for i, f := range manifest.Files {
		files[i] = &pluginv1.ScanFile{Path: f.Path, Size: f.Size, ModifiedUnixNano: f.ModTime, Testdata: f.Testdata}
	}
	return files, nil
}

// gone runs each detector that found gaps on what there is: it must have looked at
// their files, and find none of them.
func (w *work) gone(ctx context.Context) (*StepVerdict, error) { return w.ask(ctx, w.absent) }

// absent adds to a verdict whether gaps of one detector are gone.
func (w *work) absent(ctx context.Context, gaps []Gap, verdict *StepVerdict) error {
	files, err := w.files(ctx, &gaps[0])
	if err != nil {
		return err
	}
	if w.spec.Patch != nil {
		files = patched(files, w.spec.Patch.Set, time.Now())
	}
	after, err := w.look(ctx, &gaps[0], w.spec.Patch, "after", files, verdict)
	if err != nil {
		return err
	}
	for i := range gaps {
		g := &gaps[i]
		verdict.Gaps = append(verdict.Gaps, GapEvidence{Detector: g.Detector, Rule: g.Rule, Path: g.Path, Symbol: g.Symbol, After: after.count(g)})
		listed := slices.ContainsFunc(files, func(f *pluginv1.ScanFile) bool { return f.GetPath() == g.Path })
		switch {
		case verdict.Why != "":
		case after.has(g):
			verdict.Why = fmt.Sprintf("%s is still reported", g)
		case listed && !after.covered[g.Path]:
			verdict.Why = fmt.Sprintf("the detector did not look at %s, so it cannot say that the gap is gone", g.Path)
		}
	}
	return nil
}

// unanswered is a detector that failed: no verdict, and so in the end one against
// the patch, unless the caller has had enough.
func (w *work) unanswered(ctx context.Context, verdict *StepVerdict, err error) (*StepVerdict, error) {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, ctx.Err()
	}
	if errors.Is(err, sandbox.ErrConflict) {
		return nil, err
	}
	verdict.Why, verdict.unanswered = err.Error(), true
	return verdict, nil
}

// patched is a list of files as the patch leaves them. What is ignored is
// decided by the tree without it.
func patched(files []*pluginv1.ScanFile, set *sandbox.ChangeSet, now time.Time) []*pluginv1.ScanFile {
	byPath := make(map[string]*pluginv1.ScanFile, len(files))
	for _, f := range files {
		byPath[f.GetPath()] = f
	}
	for i := range set.Changes {
		c := &set.Changes[i]
		switch c.Op {
		case sandbox.OpAdd, sandbox.OpModify:
			byPath[c.Path] = &pluginv1.ScanFile{Path: c.Path, Size: c.Size, ModifiedUnixNano: now.UnixNano(), Testdata: byPath[c.Path].GetTestdata()}
		case sandbox.OpDelete, sandbox.OpSymlink:
			delete(byPath, c.Path)
		case sandbox.OpChmod, sandbox.OpMkdir:
		}
	}
	out := make([]*pluginv1.ScanFile, 0, len(byPath))
	for _, name := range sortedKeys(byPath) {
		out = append(out, byPath[name])
	}
	return out
}

// A sight is what one scan has shown.
type sight struct {
	findings []*pluginv1.Finding
	covered  map[string]bool
}

// look runs the detector of a gap in a view of its own.
func (w *work) look(ctx context.Context, g *Gap, patch *sandbox.Patch, name string, files []*pluginv1.ScanFile, verdict *StepVerdict) (seen *sight, err error) {
	spec := sandbox.Spec{Profile: w.spec.Profile, Workspace: w.spec.Workspace, Patch: patch}
	spec.Profile.Limits.Wall = gapTimeout
	d, err := w.verifier.Detectors.Open(ctx, g.Detector, spec)
	if err != nil {
		return nil, fmt.Errorf("start %s %s the patch: %w", g.Detector, name, err)
	}
	defer func() {
		out, closeErr := d.Close()
		if out != nil {
			verdict.Runs = append(verdict.Runs, evidenceOf([]string{g.Detector, name}, out))
			closeErr = errors.Join(closeErr, out.Close())
		}
		if closeErr != nil {
			seen, err = nil, errors.Join(err, closeErr)
		}
	}()
	seen = &sight{covered: make(map[string]bool)}
	start := &pluginv1.ScanStart{
		ScanId: "verify-" + name, Workspace: g.Workspace, Root: d.Root(), Revision: name + "-" + strconv.FormatInt(time.Now().UnixNano(), 36), MaxFileSize: g.MaxFileSize,
	}
	if err := seen.scan(ctx, d, start, files); err != nil {
		return nil, fmt.Errorf("scan with %s %s the patch: %w", g.Detector, name, err)
	}
	return seen, nil
}

func (s *sight) scan(ctx context.Context, d Detector, start *pluginv1.ScanStart, files []*pluginv1.ScanFile) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.Scan(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- sendFiles(stream, start, files) }()
	err = s.receive(stream)
	if err != nil {
		cancel()
	}
	// A stream that has ended fails sends with io.EOF, and its own error is in err.
	if sendErr := <-sent; err == nil && sendErr != nil && !errors.Is(sendErr, io.EOF) {
		err = sendErr
	}
	return err
}

func sendFiles(stream ScanStream, start *pluginv1.ScanStart, files []*pluginv1.ScanFile) error {
	if err := stream.Send(&pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Start{Start: start}}); err != nil {
		return err
	}
	for batch := range slices.Chunk(files, batchFiles) {
		if err := stream.Send(&pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Files{Files: &pluginv1.ScanFiles{Changed: batch}}}); err != nil {
			return err
		}
	}
	return stream.CloseSend()
}

// receive reads to the end, which is a summary: without it nothing is proved.
func (s *sight) receive(stream ScanStream) error {
	complete := false
	for {
		answer, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && complete:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the detector ended without a summary")
		case err != nil:
			return err
		case complete:
			return errors.New("the detector went on after its summary")
		}
		s.findings = append(s.findings, answer.GetFindings()...)
		if len(s.findings) > maxFindings {
			return fmt.Errorf("the detector reports more than %d findings", maxFindings)
		}
		for _, name := range answer.GetCovered() {
			s.covered[name] = true
		}
		complete = answer.GetSummary() != nil
	}
}

// newEvidence is what two scans say of the i-th of gaps.
func newEvidence(gaps []Gap, i int, set *sandbox.ChangeSet, before, after *sight) GapEvidence {
	g := &gaps[i]
	e := GapEvidence{Detector: g.Detector, Rule: g.Rule, Path: g.Path, Symbol: g.Symbol, Before: before.count(g), After: after.count(g), New: newFindings(g, set, before, after)}
	for k := range gaps {
		if gaps[k].Rule == g.Rule && gaps[k].Path == g.Path {
			e.Wanted++
		}
	}
	return e
}

// judgeGap says why a patch has not closed a gap; "" when it has.
func judgeGap(g *Gap, set *sandbox.ChangeSet, before, after *sight, evidence *GapEvidence) string {
	switch {
	case !before.has(g):
		return fmt.Sprintf("the detector does not report %s without the patch: scan the workspace again", g)
	case after.has(g):
		return fmt.Sprintf("%s is still reported", g)
	case evidence.After > evidence.Before-evidence.Wanted:
		return fmt.Sprintf("%s is still reported %d × at %s, before the patch %d ×", g.Rule, evidence.After, g.Path, evidence.Before)
	case !after.covered[g.Path] && !removes(set, g.Path):
		return fmt.Sprintf("the detector did not look at %s, so it cannot say that the gap is gone", g.Path)
	case len(evidence.New) > 0:
		return "it brings a gap as severe: " + evidence.New[0]
	}
	return ""
}

// String names the gap as people do: rule, place, symbol.
func (g *Gap) String() string {
	if g.Symbol == "" {
		return g.Rule + " at " + g.Path
	}
	return fmt.Sprintf("%s at %s (%s)", g.Rule, g.Path, g.Symbol)
}

func removes(set *sandbox.ChangeSet, name string) bool {
	return slices.ContainsFunc(set.Changes, func(c sandbox.Change) bool { return c.Op == sandbox.OpDelete && c.Path == name })
}

// count is how often the rule was found at the gap's path.
func (s *sight) count(g *Gap) (n int) {
	for _, f := range s.findings {
		if f.GetRule() == g.Rule && f.GetLocation().GetPath() == g.Path {
			n++
		}
	}
	return n
}

// has says whether the gap is among the findings: by its symbol where it has
// one, else by what is said of it.
func (s *sight) has(g *Gap) bool {
	return slices.ContainsFunc(s.findings, func(f *pluginv1.Finding) bool {
		at := f.GetLocation()
		if f.GetRule() != g.Rule || at.GetPath() != g.Path {
			return false
		}
		if g.Symbol != "" {
			return at.GetSymbol() == g.Symbol
		}
		return g.Message == "" || f.GetMessage() == g.Message
	})
}

// newFindings are those in touched files that are at least as severe as the gap
// and that were not there before, wherever they stand in their file now.
func newFindings(g *Gap, set *sandbox.ChangeSet, before, after *sight) []string {
	touched := make(map[string]bool)
	for i := range set.Changes {
		touched[set.Changes[i].Path] = true
		touched[path.Dir(set.Changes[i].Path)] = true // what concerns a directory
	}
	known := make(map[string]int)
	for _, f := range before.findings {
		known[identity(f)]++
	}
	var out []string
	for _, f := range after.findings {
		id := identity(f)
		if known[id]--; known[id] >= 0 || !touched[f.GetLocation().GetPath()] || f.GetSeverity() < g.Severity {
			continue
		}
		if len(out) < maxNew {
			out = append(out, fmt.Sprintf("%s at %s:%d: %s", f.GetRule(), f.GetLocation().GetPath(), f.GetLocation().GetLine(), f.GetMessage()))
		}
	}
	return out
}

func identity(f *pluginv1.Finding) string {
	at := f.GetLocation()
	return fmt.Sprintf("%q %q %q %q", f.GetRule(), at.GetPath(), at.GetSymbol(), f.GetMessage())
}
