package gap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Detector is a detector in service.
type Detector interface {
	// Name is what the configuration calls it.
	Name() string
	Version() string
	// Generation changes when another process, or the same one with another
	// configuration, serves it: whatever was held is then unknown.
	Generation() string
	// Volatile says that what it finds depends on more than the files, so that
	// it is asked although none has changed.
	Volatile() bool
	Rules(ctx context.Context) ([]*pluginv1.Rule, error)
	// Scan opens the stream; it ends when ctx is done.
	Scan(ctx context.Context) (Stream, error)
}

// Walker lists a workspace; *workspace.Walker is one.
type Walker interface {
	Walk(ctx context.Context) (*workspace.Manifest, error)
}

// ScanOptions bound a scan. Zero values stand for the defaults.
type ScanOptions struct {
	Timeout     time.Duration // for one detector; 10 minutes
	MaxFileSize int64         // bytes; what is larger is not read; 4 MiB
	MaxFindings int           // of one detector; 500,000
}

// Target is what a scan looks at, and with what.
type Target struct {
	Workspace string // name
	Walker    Walker
	Detectors []Detector
	// Configured names all detectors that there are to be, also those that are not in
	// service now. Gaps of any other are resolved. nil: it is not known.
	Configured []string
	Rules      []string // to apply; empty: all. What others find is left as it is.
	Grant      Grant    // nil: detectors work without a token
	For        string   // who had it made, where that is to be known of what it finds; may be empty
}

// Grant gives a detector the secret of a token for one scan. Who has been given
// it calls end when the scan is over.
type Grant func(ctx context.Context, detector, scan string) (secret string, end func(), err error)

// ScanResult says what a scan did.
type ScanResult struct {
	ID        string        `json:"id"`
	Workspace string        `json:"workspace"`
	For       string        `json:"for,omitempty"` // who had it made, if that counts
	Root      string        `json:"root"`
	Revision  string        `json:"revision"`
	StartedAt time.Time     `json:"started_at"`
	Duration  time.Duration `json:"duration_ns"`
	// Complete says that every detector has answered to the end.
	Complete bool `json:"complete"`
	Files    int  `json:"files"`

	New       int `json:"new"`
	Reopened  int `json:"reopened"`
	Resolved  int `json:"resolved"`
	Unchanged int `json:"unchanged"` // live before and after, suppressed ones included
	// Counts are of the workspace's gaps after the scan.
	Counts []Count `json:"counts"`

	Detectors []DetectorResult `json:"detectors"`
	// Diagnostics are bounded; the total is not.
	Diagnostics      []Diagnostic `json:"diagnostics"`
	DiagnosticsTotal int          `json:"diagnostics_total"`
	// Skipped counts files, and directories, that were passed over, by reason.
	// What detectors skip is counted when they see the whole workspace. They
	// are sent the same files: of each reason, the one that skips most counts.
	Skipped map[string]int64 `json:"skipped"`
}

// By is who did what the scan did, in records.
func (r *ScanResult) By() string {
	if r.For == "" {
		return "scan " + r.ID
	}
	return "scan " + r.ID + scanFor + r.For
}

const scanFor = " for "

// ScanFor says for whom the scan was made that did something, by its name in records;
// empty: it was no scan, or one for nobody.
func ScanFor(by string) string {
	rest, isScan := strings.CutPrefix(by, "scan ")
	_, who, found := strings.Cut(rest, scanFor)
	if !isScan || !found {
		return ""
	}
	return who
}

// DetectorResult is one detector's share of a scan.
type DetectorResult struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Complete bool   `json:"complete"`
	// Asked is false when nothing has changed since its last scan.
	Asked    bool  `json:"asked"`
	Files    int   `json:"files"`    // that it was sent
	Examined int64 `json:"examined"` // of those
	Findings int   `json:"findings"` // of those
}

// Scanner scans workspaces and keeps the store in step. It is safe for
// concurrent use; scans of one workspace wait for each other.
type Scanner struct {
	store     Store
	publisher Publisher
	options   ScanOptions
	sessions  sessions
}

// NewScanner returns a Scanner. A nil publisher drops events.
func NewScanner(store Store, publisher Publisher, options ScanOptions) *Scanner {
	if publisher == nil {
		publisher = nobody{}
	}
	if options.Timeout <= 0 {
		options.Timeout = 10 * time.Minute
	}
	if options.MaxFileSize <= 0 {
		options.MaxFileSize = 4 << 20
	}
	if options.MaxFindings <= 0 {
		options.MaxFindings = 500_000
	}
	return &Scanner{store: store, publisher: publisher, options: options}
}

// Forget drops what is remembered of a workspace that is no longer governed.
// Its gaps stay.
func (s *Scanner) Forget(workspace string) { s.sessions.forget(workspace) }

// Scan scans a workspace once. It fails when the tree cannot be listed, the
// store fails or ctx is done; a detector that fails makes the result incomplete
// and is said in its diagnostics. Whatever a detector has proved by then stands.
func (s *Scanner) Scan(ctx context.Context, target Target) (*ScanResult, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make scan id: %w", err)
	}
	sess := s.sessions.get(target.Workspace)
	select {
	case <-sess.turn:
		defer func() { sess.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	scan := &scan{
		Scanner: s, target: target, session: sess,
		result: &ScanResult{ID: id.String(), Workspace: target.Workspace, For: target.For, StartedAt: time.Now().UTC(), Skipped: make(map[string]int64)},
	}
	s.publisher.Publish(ScanStarted{Scan: scan.result.ID, Workspace: target.Workspace, At: scan.result.StartedAt})
	err = scan.run(ctx)
	s.publisher.Publish(ScanFinished{Result: scan.result, Err: err})
	return scan.result, err
}

// scan is one run of [Scanner.Scan].
type scan struct {
	*Scanner
	target   Target
	session  *session
	manifest *workspace.Manifest
	result   *ScanResult
	notes    diagnostics
}

func (s *scan) run(ctx context.Context) error {
	manifest, err := s.target.Walker.Walk(ctx)
	if err != nil {
		return fmt.Errorf("list workspace %s: %w", s.target.Workspace, err)
	}
	s.manifest = manifest
	s.result.Root, s.result.Revision, s.result.Files = manifest.Root, manifest.Revision, len(manifest.Files)
	s.notes.ofWalk(manifest)
	countSkipped(s.result.Skipped, &manifest.Skipped)

	shares := make([]share, len(s.target.Detectors))
	var wg sync.WaitGroup
	for i, d := range s.target.Detectors {
		shares[i].held = s.session.detectors[d.Name()]
		wg.Go(func() { shares[i].ask(ctx, s, d) })
	}
	wg.Wait()
	err = s.collect(shares)
	return errors.Join(err, s.record(ctx), context.Cause(ctx))
}

// collect puts the shares together. Its error is that of the store.
func (s *scan) collect(shares []share) error {
	s.result.Complete = true
	next := make(map[string]*held)
	passed := make(map[string]int64) // over by detectors
	var failed error
	for i := range shares {
		sh := &shares[i]
		s.result.Detectors = append(s.result.Detectors, sh.result)
		s.notes.addAll(sh.notes)
		if sh.held != nil {
			next[sh.result.Name] = sh.held
			for reason, n := range sh.held.skipped {
				passed[reason] = max(passed[reason], n)
			}
		}
		if sh.effect != nil {
			c := &sh.effect.changed
			s.result.New += len(c.Opened)
			s.result.Reopened += len(c.Reopened)
			s.result.Resolved += len(c.Resolved)
			if !c.empty() {
				s.publisher.Publish(*c)
			}
		}
		if !sh.result.Complete {
			s.result.Complete = false
		}
		failed = errors.Join(failed, sh.storeErr)
	}
	for reason, n := range passed {
		s.result.Skipped[reason] += n // none of these did the walk pass over
	}
	s.session.detectors = next
	s.result.Diagnostics = s.notes.list
	s.result.DiagnosticsTotal = len(s.notes.list) + s.notes.omitted
	return failed
}

// record closes the result and stores it, even when ctx is done.
func (s *scan) record(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var lapsed, retired Changed
	found := s.result.Resolved
	look := s.target.Configured != nil && !slices.Equal(s.target.Configured, s.session.configured)
	err := s.store.Update(ctx, func(tx Tx) error {
		var err error
		if retired = (Changed{}); look {
			if retired, err = retire(ctx, tx, s.target.Workspace, s.target.Configured, s.result.By(), time.Now().UTC()); err != nil {
				return err
			}
		}
		if lapsed, err = lapse(ctx, tx, s.target.Workspace, s.result.By(), time.Now().UTC()); err != nil {
			return err
		}
		if s.result.Counts, err = tx.Counts(ctx, s.target.Workspace); err != nil {
			return err
		}
		live := 0
		for _, c := range s.result.Counts {
			if c.State != StateResolved {
				live += c.Gaps
			}
		}
		s.result.Unchanged = live - s.result.New - s.result.Reopened - len(lapsed.Reopened)
		s.result.Resolved = found + len(retired.Resolved)
		s.result.Duration = time.Since(s.result.StartedAt)
		return tx.RecordScan(ctx, s.result)
	})
	if err != nil {
		return fmt.Errorf("record scan: %w", err)
	}
	s.session.configured = s.target.Configured
	s.result.Reopened += len(lapsed.Reopened)
	for _, c := range []Changed{retired, lapsed} {
		if !c.empty() {
			s.publisher.Publish(c)
		}
	}
	return nil
}

func countSkipped(out map[string]int64, s *workspace.Skipped) {
	for reason, n := range map[string]int{
		"ignored": s.IgnoredFiles, "ignored_directory": s.IgnoredDirs, "vendored": s.VendoredDirs,
		"nested_repository": s.NestedRepos, "symlink": s.Symlinks, "special": s.Special, "bad_name": s.BadNames,
	} {
		if n > 0 {
			out[reason] += int64(n)
		}
	}
}

// share is one detector's part of a scan; it is owned by one goroutine.
type share struct {
	held     *held // what the detector holds: before, and when done after
	result   DetectorResult
	notes    diagnostics
	effect   *application
	storeErr error
}

// ask has one detector look, and applies what it proves.
func (sh *share) ask(ctx context.Context, s *scan, d Detector) {
	sh.result = DetectorResult{Name: d.Name(), Version: d.Version()}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	before := sh.held
	sh.held = nil // holds again only after success
	after, err := sh.examine(ctx, s, d, before)
	if err != nil {
		e := sdk.FromError(err)
		sh.notes.add(Diagnostic{
			Detector: d.Name(), Reason: ReasonDetector, Remedy: oneLine(e.Remedy, maxText),
			Message: oneLine("nothing was concluded from this detector: "+e.Message, maxText),
		})
		return
	}
	sh.held, sh.result.Complete = after, true
	sh.notes.addAll(after.diagnostics)
}

func (sh *share) examine(ctx context.Context, s *scan, d Detector, before *held) (*held, error) {
	generation := d.Generation() // before anything is asked: a swap during the scan shows next time
	rules, err := d.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	sum := digest(rules, s.target.Rules)
	if before != nil && (before.generation != generation || before.rules != sum || before.base.Root != s.manifest.Root) {
		before = nil
	}
	p := planFor(before, s.manifest)
	if p.nothing() && !d.Volatile() {
		return before, nil
	}
	sh.result.Asked = true
	c, p, err := s.consult(ctx, d, rules, p)
	if err != nil {
		return nil, err
	}
	sh.result.Files, sh.result.Examined, sh.result.Findings = len(p.changed), c.examined, len(c.found)
	if err := sh.apply(ctx, s, c, &p); err != nil {
		sh.storeErr = err
		return nil, err
	}
	notes := before.carry(&p, c.checker.exists)
	notes.addAll(c.notes)
	after := &held{
		generation: generation, rules: sum, revision: s.manifest.Revision, base: s.manifest,
		diagnostics: notes, retry: notes.unread(), skipped: c.skipped,
	}
	if before != nil && !p.whole() {
		after.base = workspace.Baseline(before.base, s.manifest)
		after.skipped = before.skipped // of the last time that it saw the whole
	}
	return after, nil
}

// consult sends the plan, and the whole manifest when the detector does not
// hold what the plan is relative to. It returns the plan that was answered.
func (s *scan) consult(ctx context.Context, d Detector, rules []*pluginv1.Rule, p plan) (*collector, plan, error) {
	secret := ""
	if s.target.Grant != nil {
		given, end, err := s.target.Grant(ctx, d.Name(), s.result.ID)
		if err != nil {
			return nil, p, fmt.Errorf("get a token for the scan: %w", err)
		}
		defer end()
		secret = given
	}
	c := s.collector(d, rules)
	err := exchange(ctx, d, s.start(&p, secret), &p, c)
	if !p.whole() && err != nil && sdk.FromError(err).Reason == "MANIFEST_UNKNOWN" {
		p = planFor(nil, s.manifest)
		c = s.collector(d, rules)
		err = exchange(ctx, d, s.start(&p, secret), &p, c)
	}
	c.finish()
	return c, p, err
}

func (s *scan) start(p *plan, secret string) *pluginv1.ScanStart {
	return &pluginv1.ScanStart{
		ScanId: s.result.ID, Workspace: s.target.Workspace, Root: s.manifest.Root,
		Revision: s.manifest.Revision, BaseRevision: p.base, Rules: s.target.Rules,
		MaxFileSize: s.options.MaxFileSize, Token: secret,
	}
}

func (s *scan) collector(d Detector, rules []*pluginv1.Rule) *collector {
	byID := make(map[string]*pluginv1.Rule, len(rules))
	for _, r := range rules {
		byID[r.GetId()] = r
	}
	return &collector{
		checker: checker{
			workspace: s.target.Workspace, detector: d.Name(), detectorVersion: d.Version(), rules: byID,
			exists: func(path string) bool { return isThere(s.manifest, path) },
		},
		applied: func(rule string) bool { return len(s.target.Rules) == 0 || slices.Contains(s.target.Rules, rule) },
		max:     s.options.MaxFindings,
		covered: make(map[string]struct{}),
	}
}

// apply stores what the detector has proved, in one transaction.
func (sh *share) apply(ctx context.Context, s *scan, c *collector, p *plan) error {
	e := &evidence{
		workspace: s.target.Workspace, detector: c.checker.detector, by: s.result.By(), at: time.Now().UTC(),
		found: c.found, rules: c.checker.rules, applied: c.applied, covered: c.covered,
		exists: c.checker.exists, listed: s.manifest.Covers,
	}
	if !p.whole() {
		e.paths = c.touched(p.gone(s.manifest))
	}
	var effect *application
	err := s.store.Update(ctx, func(tx Tx) error {
		var err error
		effect, err = apply(ctx, tx, e)
		return err
	})
	if err == nil {
		sh.effect = effect
	}
	return err
}

// touched returns the paths that the scan says anything about.
func (c *collector) touched(gone []string) []string {
	paths := gone
	for path := range c.covered {
		paths = append(paths, path)
	}
	for _, f := range c.found {
		paths = append(paths, f.Path)
	}
	if paths == nil {
		return []string{} // not nil, which stands for all
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
