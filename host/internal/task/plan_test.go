package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk/scaffold"
)

// gaps puts gaps of a rule into the store and returns their ids.
func (b *bench) gaps(t testing.TB, rule, dir string, severity gap.Severity, n int) []string {
	t.Helper()
	var ids []string
	var all []*gap.Gap
	for i := range n {
		id := uuid.Must(uuid.NewV7()).String()
		ids = append(ids, id)
		all = append(all, &gap.Gap{
			ID: id, Fingerprint: "g1:" + id, Workspace: "w", Rule: rule, Type: gap.DocumentationIncomplete, Severity: severity, State: gap.StateOpen,
			Message: "no comment", Remedy: "write one", Location: gap.Location{Path: fmt.Sprintf("%s/f%d.go", dir, i), Line: i + 1}, FirstSeen: b.now(), LastSeen: b.now(),
		})
	}
	err := b.db.Gaps().Update(t.Context(), func(tx gap.Tx) error { return tx.Put(t.Context(), all, nil) })
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// set gives gaps a state, as a scan would.
func (b *bench) set(t testing.TB, state gap.State, ids ...string) {
	t.Helper()
	err := b.db.Gaps().Update(t.Context(), func(tx gap.Tx) error {
		for _, id := range ids {
			g, err := tx.Get(t.Context(), id)
			if err != nil {
				return err
			}
			g.State = state
			if err := tx.Put(t.Context(), []*gap.Gap{g}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) plan(t testing.TB) task.Planned {
	t.Helper()
	done, err := b.Plan(t.Context(), "w")
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func (b *bench) list(t testing.TB, states ...task.State) []*task.Task {
	t.Helper()
	page, err := b.List(t.Context(), task.Filter{States: states})
	if err != nil {
		t.Fatal(err)
	}
	return page.Tasks
}

var docs = task.Rule{
	Name: "docs", Match: task.Match{Types: []string{"documentation_incomplete"}, Languages: []string{"go"}, Paths: []string{"a/**"}, Severity: 2},
	Route: task.Route{Sandbox: "scaffold", Scaffold: "go-doc", Verify: []string{"build", "gap"}, Approval: task.ApprovalAuto, Budget: task.Budget{Wall: time.Minute, Attempts: 5}},
}

// Tasks of a rule need what the rule needs, also one that the rule came to need
// later, and for as long as it does.
func TestRuleNeedsProtocols(t *testing.T) {
	needy := docs
	needy.Route.Needs = []string{"scp"}
	b := newBench(t, task.Settings{Rules: []task.Rule{needy}})
	b.gaps(t, "docs.x", "a", gap.SeverityHigh, 1)
	b.plan(t)
	blocked := b.list(t, task.StateBlocked)
	if len(blocked) != 1 || !slices.Equal(blocked[0].Needs, []string{"scp"}) || blocked[0].Reason != "waits for the protocol scp" {
		t.Fatalf("%+v", blocked)
	}
	p, err := b.Package(t.Context(), blocked[0])
	if err != nil || p.Dependencies == nil || !slices.Equal(p.Dependencies.Protocols, []string{"scp"}) {
		t.Errorf("%+v, %v", p, err)
	}
	b.stand("scp", true)
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	needy.Route.Needs = []string{"arp", "scp"}
	b.SetSettings(task.Settings{Rules: []task.Rule{needy}})
	b.plan(t)
	if blocked := b.list(t, task.StateBlocked); len(blocked) != 1 || blocked[0].Reason != "waits for the protocol arp" {
		t.Fatalf("%+v", blocked)
	}
	b.SetSettings(task.Settings{Rules: []task.Rule{docs}})
	b.plan(t)
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if ready := b.list(t, task.StateReady); len(ready) != 1 || ready[0].Needs != nil {
		t.Errorf("%+v", ready)
	}
}

// A task that was made to need a protocol goes on needing it whatever its rule says.
func TestOwnNeedsStay(t *testing.T) {
	needy := docs
	needy.Route.Needs = []string{"scp"}
	b := newBench(t, task.Settings{Rules: []task.Rule{needy}})
	ids := b.gaps(t, "docs.x", "a", gap.SeverityHigh, 1)
	made := b.make(t, func(n *task.New) { n.Gaps, n.Needs = ids, []string{"arp"} })
	if !slices.Equal(made.Needs, []string{"arp", "scp"}) {
		t.Fatalf("%+v", made)
	}
	b.SetSettings(task.Settings{Rules: []task.Rule{docs}})
	b.plan(t)
	if got, err := b.Get(t.Context(), made.ID); err != nil || !slices.Equal(got.Needs, []string{"arp"}) || got.State != task.StateBlocked {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPlanMakesFewTasksOfManyGaps(t *testing.T) {
	b := newBench(t, task.Settings{Open: 3, Rules: []task.Rule{docs}})
	low := b.gaps(t, "docs.low", "a/x", gap.SeverityLow, 45)   // 20, 20, 5
	high := b.gaps(t, "docs.high", "a/y", gap.SeverityHigh, 5) // 1
	other := b.gaps(t, "docs.low", "z", gap.SeverityHigh, 5)   // no rule is for them
	info := b.gaps(t, "docs.low", "a/x", gap.SeverityInfo, 1)  // nor for these
	if done := b.plan(t); done.Made != 4 || done.Opened != 3 || done.Closed != 0 {
		t.Fatalf("planned %+v", done)
	}
	ready, backlog := b.list(t, task.StateReady), b.list(t, task.StateBacklog)
	if len(ready) != 3 || len(backlog) != 1 || ready[0].Rule != "docs.high" || ready[0].Target != "a/y" || len(ready[0].Gaps) != 5 {
		t.Fatalf("%d ready, %d in the backlog, first %+v", len(ready), len(backlog), ready[0])
	}
	for _, k := range ready {
		if k.Route != "docs" || k.Sandbox != "scaffold" || k.MaxAttempts != 5 || k.Kind != task.KindGap || k.Severity == "" {
			t.Errorf("%+v", k)
		}
	}
	for id, want := range map[string]gap.State{high[0]: gap.StateTicketed, other[0]: gap.StateOpen, info[0]: gap.StateOpen} {
		if g, err := b.db.Gaps().Get(t.Context(), id); err != nil || g.State != want {
			t.Errorf("gap %+v, want %s, %v", g, want, err)
		}
	}
	if done := b.plan(t); done != (task.Planned{}) {
		t.Errorf("planned again: %+v", done)
	}
	// A gap that goes by itself closes its task, and makes room for the next.
	held := b.claim(t, task.StageGenerate, "agent", ready[0].ID)
	b.set(t, gap.StateResolved, high...)
	if done := b.plan(t); done.Closed != 1 || done.Opened != 1 {
		t.Errorf("planned %+v", done)
	}
	if got, err := b.Get(t.Context(), ready[0].ID); err != nil || got.State != task.StateDone {
		t.Errorf("%+v, %v", got, err)
	}
	if beat, err := b.Heartbeat(t.Context(), held.Hold()); err != nil || beat.Stop == "" {
		t.Errorf("who worked on it is told %+v, %v", beat, err)
	}
	// One that comes back is a new task; of one that was cancelled there is none.
	b.set(t, gap.StateOpen, high...)
	if done := b.plan(t); done.Made != 1 {
		t.Errorf("planned %+v", done)
	}
	var ofLow *task.Task
	for _, k := range b.list(t, task.StateReady) {
		if k.Rule == "docs.low" {
			ofLow = k
		}
	}
	if _, err := b.Cancel(t.Context(), ofLow.ID, "me", "not wanted"); err != nil {
		t.Fatal(err)
	}
	if g, err := b.db.Gaps().Get(t.Context(), ofLow.Gaps[0]); err != nil || g.State != gap.StateOpen {
		t.Errorf("%+v, %v", g, err)
	}
	if done := b.plan(t); done.Made != 0 {
		t.Errorf("made anew what was cancelled: %+v", done)
	}
	_ = low
}

func TestIntegratingIsNotOvertaken(t *testing.T) {
	b := newBench(t, task.Settings{Rules: []task.Rule{docs}})
	ids := b.gaps(t, "docs.x", "a", gap.SeverityHigh, 1)
	b.plan(t)
	got := b.claim(t, task.StageGenerate, "x", "")
	b.advance(t, got, task.StateProposed)
	got = b.claim(t, task.StageVerify, "x", "")
	b.advance(t, got, task.StateApproved)
	got = b.claim(t, task.StageIntegrate, "x", "")
	if _, err := b.Advance(t.Context(), got.Hold(), task.Step{To: task.StateDone}); reason(err) != task.ReasonGapsLive {
		t.Errorf("done before its gap is gone: %v", err)
	}
	b.set(t, gap.StateResolved, ids...)
	if done := b.plan(t); done.Closed != 0 {
		t.Errorf("closed under whoever integrates it: %+v", done)
	}
	b.advance(t, got, task.StateDone)
}

func TestRulesThatChange(t *testing.T) {
	b := newBench(t, task.Settings{Open: 1, Rules: []task.Rule{docs}})
	b.gaps(t, "docs.x", "a", gap.SeverityHigh, 1)
	b.gaps(t, "docs.y", "a", gap.SeverityLow, 1)
	b.plan(t)
	other := docs
	other.Name, other.Route.Sandbox = "people", ""
	b.SetSettings(task.Settings{Open: 2, Rules: []task.Rule{other}})
	if done := b.plan(t); done.Rerouted != 2 || done.Opened != 1 {
		t.Errorf("planned %+v", done)
	}
	if got := b.claim(t, task.StageGenerate, task.HostClaimant, ""); got != nil {
		t.Errorf("the host took what is for agents: %+v", got)
	}
	for _, k := range b.list(t, task.StateReady) {
		if k.Route != "people" || k.Sandbox != "" || b.Route(k).Approval != task.ApprovalAuto {
			t.Errorf("%+v", k)
		}
	}
}

func TestGroups(t *testing.T) {
	for group, want := range map[task.Group]int{task.GroupDirectory: 1, task.GroupFile: 3, task.GroupNone: 3} {
		rule := docs
		rule.Group = group
		b := newBench(t, task.Settings{Rules: []task.Rule{rule}})
		b.gaps(t, "docs.x", "a", gap.SeverityHigh, 3)
		if done := b.plan(t); done.Made != want {
			t.Errorf("%s: %+v", group, done)
		}
	}
}

// tree is a directory as a workspace.
type tree string

// Root implements [task.Trees].
func (r tree) Root(string) (*os.Root, error) { return os.OpenRoot(string(r)) }

func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile("../../../docs/generator-task.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conforms checks a package against the published schema, and returns it.
func conforms(t testing.TB, s *task.Service, k *task.Task) *task.Package {
	t.Helper()
	p, err := s.Package(context.Background(), k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	if err := schema(t).Validate(value); err != nil {
		t.Errorf("%s\n%v", text, err)
	}
	return p
}

// steps are as a workspace might have them.
func steps(_ string, names []string, gaps bool) ([]task.VerifyStep, error) {
	out := []task.VerifyStep{
		{Name: "protected", Runner: "protected"},
		{Name: "build", Runner: "command", Command: []string{"go", "build"}, Dir: "x"},
		{Name: "test", Runner: "go-test", Packages: []string{"./..."}, TimeoutSeconds: 60},
	}
	if gaps {
		out = append(out, task.VerifyStep{Name: "gap", Runner: "gap"})
	}
	if slices.Contains(names, "nowhere") {
		return nil, errors.New("there is no such step")
	}
	return out, nil
}

// testScaffolds looks at what packages say of scaffolds: the one that is named, those
// that apply, and none.
func testScaffolds(t *testing.T, s *task.Service, create func(func(*task.New)) *task.Task) {
	t.Helper()
	applies := conforms(t, s, create(func(n *task.New) { n.Type, n.Target, n.Spec.Properties = "test_coverage", "a/f0.go", nil }))
	if applies.Scaffold == nil || applies.Scaffold.Name != "" || len(applies.Scaffold.Candidates) == 0 {
		t.Errorf("%+v", applies.Scaffold)
	}
	named := conforms(t, s, create(func(n *task.New) { n.Spec.Scaffold = "go-doc" }))
	if c := named.Scaffold.Candidates; len(c) != 1 || c[0].Name != "go-doc" || c[0].Version == "" || len(c[0].SHA256) != 64 {
		t.Errorf("%+v", named.Scaffold)
	}
	if own := conforms(t, s, create(func(n *task.New) { n.Spec.Scaffold = "ours" })); own.Scaffold.Name != "ours" || own.Scaffold.Candidates != nil {
		t.Errorf("%+v", own.Scaffold)
	}
	if none := conforms(t, s, create(func(n *task.New) { n.Type, n.Spec.Sandbox = "test_coverage", "none" })); none.Scaffold != nil {
		t.Errorf("%+v", none.Scaffold)
	}
}

func TestPackagesConform(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/f0.go"), []byte("package a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, task.Settings{})
	set, err := scaffold.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	s := task.NewService(b.db.Tasks(), task.Options{
		Settings: task.Settings{Rules: []task.Rule{docs}}, Trees: tree(dir), Now: b.now, Steps: steps,
		Scaffolds: func(sandbox string) *scaffold.Set {
			if sandbox == "none" {
				return nil
			}
			return set
		},
	})
	ids := b.gaps(t, "docs.x", "a", gap.SeverityHigh, 3)
	create := func(change func(*task.New)) *task.Task {
		n := task.New{Kind: task.KindManual, Title: "t", Workspace: "w", By: "me"}
		change(&n)
		made, err := s.Create(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	one := conforms(t, s, create(func(n *task.New) { n.Gaps = ids[:1] }))
	if one.Target.Content != "package a\n" || one.Target.Kind != "file" || len(one.Target.SHA256) != 64 || one.Gap.Path != "a/f0.go" || one.Gaps != nil {
		t.Errorf("%+v", one)
	}
	if one.Scaffold == nil || one.Scaffold.Name != "go-doc" || len(one.Verify) != 4 || one.Verify[2].TimeoutSeconds != 60 || one.Budget.WallSeconds != 60 || one.Approval != task.ApprovalOne {
		t.Errorf("%+v", one)
	}
	many := conforms(t, s, create(func(n *task.New) { n.Gaps = ids }))
	if many.Target.Kind != "directory" || len(many.Gaps) != 3 || !slices.Contains(many.Requirements, "write one") || len(many.Criteria) < 4 {
		t.Errorf("%+v", many)
	}
	if none := conforms(t, s, create(func(n *task.New) { n.Target = "new.go" })); none.Target.Kind != "missing" || none.Goal != "t" {
		t.Errorf("%+v", none)
	}
	hand := conforms(t, s, create(func(n *task.New) {
		n.Needs, n.DependsOn = []string{"scp"}, []string{many.ID}
		n.Spec = task.Spec{Goal: "g", Criteria: []string{"c"}, Scope: []string{"a/**"}, Scaffold: "s", Parameters: map[string]any{"x": true}, Properties: map[string]string{"k": "v"}}
	}))
	if hand.Dependencies == nil || hand.Gap.Properties["k"] != "v" || hand.Scaffold.Name != "s" {
		t.Errorf("%+v", hand)
	}
	testScaffolds(t, s, create)
	if _, err := s.Package(t.Context(), create(func(n *task.New) { n.Target = "out" })); err == nil {
		t.Error("a link out of the workspace was followed")
	}
}
