package gap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is both ends of a Scan call without a network.
type pipe struct {
	grpc.ClientStream
	ctx       context.Context
	requests  chan *pluginv1.ScanRequest
	responses chan *pluginv1.ScanResponse
	done      chan struct{}
	err       error // valid once done is closed
}

func (p *pipe) Send(r *pluginv1.ScanRequest) error {
	select {
	case p.requests <- r:
		return nil
	case <-p.done:
		return io.EOF
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) CloseSend() error { close(p.requests); return nil }

func (p *pipe) Recv() (*pluginv1.ScanResponse, error) {
	select {
	case r := <-p.responses:
		return r, nil
	case <-p.done:
		select {
		case r := <-p.responses:
			return r, nil
		default:
		}
		if p.err == nil {
			return nil, io.EOF
		}
		return nil, p.err
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (p *pipe) reply(r *pluginv1.ScanResponse) error {
	select {
	case p.responses <- r:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// fake is a detector in this process. Its answer does what the test wants.
type fake struct {
	name, version, generation string
	rules                     []*pluginv1.Rule
	rulesErr                  error
	volatile                  bool
	answer                    func(f *fake, p *pipe) error

	mu       sync.Mutex
	starts   []*pluginv1.ScanStart
	sent     []string // paths of the last scan, removed ones with a minus
	revision string   // that it holds
}

func (f *fake) Name() string       { return f.name }
func (f *fake) Version() string    { return f.version }
func (f *fake) Generation() string { return f.generation }
func (f *fake) Volatile() bool     { return f.volatile }

func (f *fake) Rules(context.Context) ([]*pluginv1.Rule, error) { return f.rules, f.rulesErr }

func (f *fake) Scan(ctx context.Context) (gap.Stream, error) {
	p := &pipe{
		ctx: ctx, requests: make(chan *pluginv1.ScanRequest, 1),
		responses: make(chan *pluginv1.ScanResponse, 1), done: make(chan struct{}),
	}
	go func() { p.err = f.answer(f, p); close(p.done) }()
	return p, nil
}

// receive reads the host's side and checks the base revision as the SDK does.
func (f *fake) receive(p *pipe) (changed []string, err error) {
	var removed []string
	var start *pluginv1.ScanStart
	for {
		select {
		case r, ok := <-p.requests:
			if !ok {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.starts = append(f.starts, start)
				f.sent = slices.Clone(changed)
				for _, path := range removed {
					f.sent = append(f.sent, "-"+path)
				}
				if base := start.GetBaseRevision(); base != "" && base != f.revision {
					return nil, sdk.Errorf(codes.FailedPrecondition, "MANIFEST_UNKNOWN", "not held")
				}
				f.revision = start.GetRevision()
				return changed, nil
			}
			if s := r.GetStart(); s != nil {
				start = s
			}
			if n := len(r.GetFiles().GetChanged()); n > 1000 {
				return nil, fmt.Errorf("%d files in a message", n)
			}
			for _, file := range r.GetFiles().GetChanged() {
				changed = append(changed, file.GetPath())
			}
			removed = append(removed, r.GetFiles().GetRemoved()...)
		case <-p.ctx.Done():
			return nil, p.ctx.Err()
		}
	}
}

// world is a workspace in memory. Writing a file changes its size and time.
type world struct {
	files      map[string]string
	times      map[string]int64
	incomplete []string
	clock      int64
	unreadable map[string]bool
	walks      int
}

func newWorld(files map[string]string) *world {
	w := &world{files: make(map[string]string), times: make(map[string]int64), unreadable: make(map[string]bool)}
	for path, text := range files {
		w.write(path, text)
	}
	return w
}

func (w *world) write(path, text string) {
	w.clock++
	w.files[path], w.times[path] = text, w.clock
}

func (w *world) Walk(ctx context.Context) (*workspace.Manifest, error) {
	w.walks++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := &workspace.Manifest{Root: "/w", Incomplete: w.incomplete, WalkedAt: time.Now().UnixNano()}
	var rev strings.Builder
	for _, path := range slices.Sorted(maps.Keys(w.files)) {
		f := workspace.File{Path: path, Size: int64(len(w.files[path])), ModTime: w.times[path], CTime: w.times[path]}
		if !m.Covers(path) {
			continue
		}
		m.Files = append(m.Files, f)
		fmt.Fprintf(&rev, "%s %d %d;", f.Path, f.Size, f.ModTime)
	}
	m.Revision = fmt.Sprint(rev.String(), w.incomplete)
	return m, nil
}

var todoRule = &pluginv1.Rule{
	Id: "todo", Version: "1", Type: pluginv1.GapType_GAP_TYPE_CODE_QUALITY,
	DefaultSeverity: pluginv1.Severity_SEVERITY_LOW, Summary: "a TODO",
}

// todos is an honest detector of lines that hold `TODO`.
func todos(w *world) *fake {
	return &fake{
		name: "code", version: "1.0", generation: "g1", rules: []*pluginv1.Rule{todoRule},
		answer: func(f *fake, p *pipe) error {
			changed, err := f.receive(p)
			if err != nil {
				return err
			}
			for _, path := range changed {
				if w.unreadable[path] {
					d := &pluginv1.ScanDiagnostic{Path: path, Reason: "UNREADABLE", Message: "permission denied"}
					if err := p.reply(&pluginv1.ScanResponse{Diagnostics: []*pluginv1.ScanDiagnostic{d}}); err != nil {
						return err
					}
					continue
				}
				r := &pluginv1.ScanResponse{Findings: findTODOs(path, w.files[path], f.rules[0]), Covered: []string{path}}
				if err := p.reply(r); err != nil {
					return err
				}
			}
			return p.reply(&pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{
				FilesExamined: int64(len(changed)), Skipped: map[string]int64{"generated": 2},
			}})
		},
	}
}

func findTODOs(path, text string, rule *pluginv1.Rule) []*pluginv1.Finding {
	var out []*pluginv1.Finding
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if !strings.Contains(l, "TODO") {
			continue
		}
		out = append(out, &pluginv1.Finding{
			Rule: rule.GetId(), RuleVersion: rule.GetVersion(), Message: "TODO comment", Remedy: "do it", Snippet: l,
			Location:      &pluginv1.Location{Path: path, Line: int32(i + 1), EndLine: int32(i + 1)},
			ContextBefore: strings.Join(lines[max(i-3, 0):i], "\n"), ContextAfter: strings.Join(lines[i+1:min(i+4, len(lines))], "\n"),
		})
	}
	return out
}

// rig is a scanner over a store in memory.
type rig struct {
	t       testing.TB
	store   gap.Store
	scanner *gap.Scanner
	service *gap.Service
	world   *world
	events  recorder
	name    string // of the workspace
}

type recorder struct {
	mu   sync.Mutex
	list []any
}

func (r *recorder) Publish(e any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
}

func newRig(t testing.TB, w *world, options gap.ScanOptions) *rig {
	t.Helper()
	db, err := store.OpenMemory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, store: db.Gaps(), world: w, name: "w"}
	r.scanner = gap.NewScanner(r.store, &r.events, options)
	r.service = gap.NewService(r.store, &r.events)
	return r
}

// other is a rig for another workspace in the same store.
func (r *rig) other(w *world) *rig {
	o := &rig{t: r.t, store: r.store, world: w, name: uuid.NewString(), service: r.service}
	o.scanner = gap.NewScanner(o.store, nil, gap.ScanOptions{})
	return o
}

func (r *rig) scan(detectors ...gap.Detector) *gap.ScanResult {
	r.t.Helper()
	result, err := r.scanner.Scan(context.Background(), gap.Target{Workspace: r.name, Walker: r.world, Detectors: detectors})
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

// want checks the counts of a scan.
func (r *rig) want(result *gap.ScanResult, opened, reopened, resolved, unchanged int) {
	r.t.Helper()
	got := [4]int{result.New, result.Reopened, result.Resolved, result.Unchanged}
	if got != [4]int{opened, reopened, resolved, unchanged} {
		r.t.Fatalf("new, reopened, resolved, unchanged are %v, want %v\ndiagnostics: %+v", got,
			[4]int{opened, reopened, resolved, unchanged}, result.Diagnostics)
	}
}

// follow takes a gap to the state that the work on it has come to.
func (r *rig) follow(g *gap.Gap, to gap.State) {
	r.t.Helper()
	err := r.store.Update(r.t.Context(), func(tx gap.Tx) error {
		changes, err := gap.Follow(g, to, "task", "", time.Now())
		return errors.Join(err, tx.Put(r.t.Context(), []*gap.Gap{g}, changes))
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) gaps(states ...gap.State) []*gap.Gap {
	r.t.Helper()
	page, err := r.service.List(context.Background(), gap.Filter{Workspace: r.name, States: states})
	if err != nil {
		r.t.Fatal(err)
	}
	return page.Gaps
}

func (r *rig) the(states ...gap.State) *gap.Gap {
	r.t.Helper()
	gaps := r.gaps(states...)
	if len(gaps) != 1 {
		r.t.Fatalf("%d gaps in %v, want one", len(gaps), states)
	}
	g, err := r.service.Get(context.Background(), gaps[0].ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}
