package flow_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/flow"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/task"
)

// file is the one that has a gap while it holds the word GAP.
const (
	file    = "a.txt"
	content = "first\nGAP\nlast\n"
	mended  = "first\nmended\nlast\n"
	gapID   = "01890000-0000-7000-8000-000000000001"
	backlog = 10 * time.Second // how long a test waits for what should happen soon
)

// world is an engine on real tasks, patches and workspaces, whose generator,
// verifier, backups and scans are functions that a test may replace.
type world struct {
	t          *testing.T
	root       string
	db         *store.DB
	tasks      *task.Service
	patches    *patch.Service
	integrator *integration.Integrator
	engine     *flow.Engine
	changed    event.Notice

	generate func(ctx context.Context, r flow.RunRequest, now string) (*flow.Run, error)
	verify   func(ctx context.Context, c flow.Check) (patch.Verdict, error)
	// missing are the steps that a verdict does not have.
	missing func(p *patch.Patch) []string
	// postCheck is called where the rule names steps for it.
	postCheck func(c flow.Made) (patch.Verdict, error)
	// revoked says which agents were revoked.
	revoked func(agent string) bool
	save    func(ctx context.Context, r backup.SaveRequest) error
	rescan  func(ctx context.Context) error
	mode    integration.Mode
	dir     string // of patch files

	mu       sync.Mutex
	ahead    time.Duration // of the time
	halted   error
	steps    []flow.Step
	feedback []string // of the packages that were generated for
	saved    int
}

// newWorld makes a world with one gap and a task for it. approval is the one of
// the rule.
func newWorld(t *testing.T, approval task.Approval) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), integrator: integration.New(integration.Options{}), mode: integration.WorkTree, dir: t.TempDir()}
	w.write(content)
	var err error
	if w.db, err = store.OpenMemory(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.tasks = task.NewService(w.db.Tasks(), task.Options{
		Publisher: publisher{w}, Trees: trees{w}, Settings: w.settings(approval), Now: w.now,
	})
	if w.patches, err = patch.NewService(w.db.Patches(), patch.Options{Dir: t.TempDir(), Publisher: publisher{w}, Revoked: func(name string) bool { return w.revoked(name) }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.patches.Close(), w.db.Close()); err != nil {
			t.Error(err)
		}
	})
	w.generate = func(_ context.Context, _ flow.RunRequest, now string) (*flow.Run, error) {
		return w.replaces(now, strings.Replace(now, "GAP", "mended", 1)), nil
	}
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) { return patch.Verdict{Passed: true}, nil }
	w.missing = func(*patch.Patch) []string { return nil }
	w.revoked = func(string) bool { return false }
	w.postCheck = func(flow.Made) (patch.Verdict, error) { return patch.Verdict{Passed: true}, nil }
	w.save = func(context.Context, backup.SaveRequest) error { return nil }
	w.rescan = w.scan
	w.engine = w.newEngine()
	w.found(gap.StateOpen)
	if _, err := w.tasks.Plan(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) newEngine() *flow.Engine {
	return flow.New(flow.Options{
		Tasks: w.tasks, Patches: patches{w.patches, w}, Generator: generator{w}, Verifier: verifier{w}, Backups: backups{w},
		Integrator: w.integrator, Workspaces: workspaces{w}, Tokens: tokens{}, Records: records{},
		Changed: w.changed.Wait, Halted: w.whyHalted, Logger: hclog.NewNullLogger(), OnStep: w.step, Now: w.now,
	})
}

func (w *world) whyHalted() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.halted
}

// halt says why nothing may be begun; nil lifts it.
func (w *world) halt(why error) {
	w.mu.Lock()
	w.halted = why
	w.mu.Unlock()
	w.changed.Tell()
}

// run runs the engine until what is returned is called.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.engine.Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	w.t.Cleanup(stop)
	return stop
}

// only returns the one task there is.
func (w *world) only() *task.Task {
	w.t.Helper()
	page, err := w.tasks.List(w.t.Context(), task.Filter{})
	if err != nil || len(page.Tasks) != 1 {
		w.t.Fatalf("%d tasks, %v", len(page.Tasks), err)
	}
	return page.Tasks[0]
}

// rule puts a rule in force with another approval.
func (w *world) rule(approval task.Approval) {
	w.tasks.SetSettings(w.settings(approval))
	w.changed.Tell()
}

func (w *world) settings(approval task.Approval) task.Settings {
	return task.Settings{
		Attempts: 2, Backoff: task.Backoff{First: time.Millisecond, Most: time.Millisecond},
		Rules: []task.Rule{{Name: "all", Route: task.Route{Sandbox: "fake", Approval: approval, PostCheck: []string{"build"}}}},
	}
}

// clock takes the time forward.
func (w *world) clock(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += by
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// awaitPatch waits until the patch of the task is as wanted.
func (w *world) awaitPatch(what string, ok func(*patch.Patch) bool) {
	w.t.Helper()
	w.awaitThat("has a patch that "+what, func(*task.Task) bool { return ok(w.patch()) })
}

// await waits until the task is in the state.
func (w *world) await(state task.State) *task.Task {
	w.t.Helper()
	return w.awaitThat("is "+string(state), func(t *task.Task) bool { return t.State == state })
}

func (w *world) awaitThat(what string, ok func(*task.Task) bool) *task.Task {
	w.t.Helper()
	timer := time.NewTimer(backlog)
	defer timer.Stop()
	for {
		changed := w.changed.Wait()
		t := w.only()
		if ok(t) {
			return t
		}
		select {
		case <-changed:
		case <-timer.C:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("no task that %s; it is %s: %s\n%+v", what, t.State, t.Reason, w.steps)
		}
	}
}

// patch returns the patch of the task.
func (w *world) patch() *patch.Patch {
	w.t.Helper()
	p, err := w.patches.Get(w.t.Context(), w.only().Patch)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) step(s flow.Step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = append(w.steps, s)
}

func (w *world) path() string { return filepath.Join(w.root, file) }

func (w *world) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read() string {
	w.t.Helper()
	text, err := os.ReadFile(w.path())
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// holds asserts what stands in the file.
func (w *world) holds(want string) {
	w.t.Helper()
	if now := w.read(); now != want {
		w.t.Errorf("the file holds %q, want %q", now, want)
	}
}

// git runs git in the workspace.
func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", append([]string{"-C", w.root, "-c", "user.name=me", "-c", "user.email=me@localhost"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes the workspace a repository with all there is in it.
func (w *world) commit() {
	w.t.Helper()
	w.git("init", "-q")
	w.git("add", "-A")
	w.git("commit", "-qm", "as it was")
}

// found puts the gap into a state.
func (w *world) found(state gap.State) {
	w.t.Helper()
	now := time.Now().UTC()
	err := w.db.Gaps().Update(w.t.Context(), func(tx gap.Tx) error {
		return tx.Put(w.t.Context(), []*gap.Gap{{
			ID: gapID, Fingerprint: "g1:" + gapID, Workspace: "w", Rule: "r", Type: gap.CodeQuality, Severity: gap.SeverityHigh, Message: "there is a gap",
			Location: gap.Location{Path: file, Line: 2}, State: state, FirstSeen: now, LastSeen: now,
		}}, nil)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// scan resolves the gap if it is gone.
func (w *world) scan(context.Context) error {
	if !strings.Contains(w.read(), "GAP") {
		w.found(gap.StateResolved)
	}
	return nil
}

// replaces is a run that changed the file.
func (w *world) replaces(old, now string) *flow.Run {
	return &flow.Run{
		Outcome: flow.Changed, Why: "replaced", Close: func() error { return nil },
		Set: &sandbox.ChangeSet{Changes: []sandbox.Change{{
			Path: file, Op: sandbox.OpModify, Mode: 0o600, Size: int64(len(now)), SHA256: hash(now), OldSHA256: hash(old), OldMode: 0o600,
		}}},
		Content: func(sandbox.Change) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(now)), nil },
	}
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

type publisher struct{ *world }

func (p publisher) Publish(any) { p.changed.Tell() }

type trees struct{ *world }

func (t trees) Root(string) (*os.Root, error) { return os.OpenRoot(t.root) }

type generator struct{ *world }

func (g generator) Run(ctx context.Context, r flow.RunRequest, progress func(phase, message string)) (*flow.Run, error) {
	progress("editing", file)
	g.mu.Lock()
	g.feedback = append(g.feedback, string(r.Package))
	g.mu.Unlock()
	now, err := os.ReadFile(filepath.Join(r.Root, file))
	if err != nil {
		return nil, err
	}
	return g.generate(ctx, r, string(now))
}

type verifier struct{ *world }

func (v verifier) Verify(ctx context.Context, c flow.Check, _ func(phase, message string)) (patch.Verdict, error) {
	// As a sandbox would: what the patch replaces must be there.
	if now := v.read(); hash(now) != c.Patch.Set.Changes[0].OldSHA256 {
		return patch.Verdict{}, fmt.Errorf("%s: %w", file, sandbox.ErrConflict)
	}
	return v.verify(ctx, c)
}

func (v verifier) Missing(p *patch.Patch, _ []string) ([]string, error) { return v.missing(p), nil }

func (v verifier) PostCheck(_ context.Context, c flow.Made) (flow.Confirmation, error) {
	verdict, err := v.postCheck(c)
	return flow.Confirmation{Verdict: verdict, By: c.Steps}, err
}

type backups struct{ *world }

func (b backups) Save(ctx context.Context, r backup.SaveRequest) (*backup.Snapshot, error) {
	if err := b.save(ctx, r); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved++
	return &backup.Snapshot{ID: fmt.Sprintf("snapshot-%d", b.saved)}, nil
}

func (b backups) ForPatch(context.Context, string) ([]*backup.Snapshot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []*backup.Snapshot{{ID: fmt.Sprintf("snapshot-%d", b.saved)}}, nil
}

type workspaces struct{ *world }

func (w workspaces) Root(string) (string, error) { return w.root, nil }

func (w workspaces) Rescan(ctx context.Context, _ string) error { return w.rescan(ctx) }

type tokens struct{}

func (tokens) Run(context.Context, string, *task.Task, time.Duration) (string, func(), error) {
	return "secret", func() {}, nil
}

func (tokens) Integration(context.Context, *patch.Patch) (string, error) { return "accessor", nil }

func (tokens) Rollback(context.Context, *patch.Patch) (string, error) {
	return "rollback accessor", nil
}

type records struct{}

func (records) Integrating(_ context.Context, patch string) (string, error) {
	return "7 sha256:" + patch, nil
}

func contains(all []string, part string) bool {
	return bytes.Contains([]byte(strings.Join(all, "\n")), []byte(part))
}

// patches are the real ones, integrated into the one workspace.
type patches struct {
	*patch.Service
	world *world
}

func (p patches) Request(one *patch.Patch) (integration.Request, error) {
	return integration.Request{Root: p.world.root, ID: one.ID, Set: one.Set, Content: p.Content(one), Mode: p.world.mode, Branch: "sop/test", Dir: p.world.dir}, nil
}

func (p patches) Rollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, patch.Reversal, error) {
	how := patch.Reversal{Token: r.Token}
	one, err := p.BeginRollback(ctx, ref, r.By, r.Why, r.Token)
	if err != nil {
		return nil, how, err
	}
	result, err := p.world.integrator.Rollback(ctx, integration.RollbackRequest{Root: p.world.root, ID: one.ID, Merge: r.Merge})
	if err != nil {
		return nil, how, err
	}
	how.From = result.From
	one, err = p.RolledBack(ctx, one.ID, r.By, r.Why, how)
	return one, how, err
}
