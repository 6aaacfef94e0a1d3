package patch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	*patch.Service
	t    *testing.T
	db   *store.DB
	dir  string
	root string // of the workspace
	now  time.Time
	told []patch.Changed
}

func (f *fixture) Publish(e any) { f.told = append(f.told, e.(patch.Changed)) }

func newFixture(t *testing.T, opt patch.Options) *fixture {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, db: db, dir: filepath.Join(t.TempDir(), "patches"), root: t.TempDir(), now: time.Now().UTC()}
	opt.Dir, opt.Publisher, opt.Now = f.dir, f, func() time.Time { return f.now }
	f.Service, err = patch.NewService(db.Patches(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.Service.Close(), db.Close()); err != nil { //nolint:staticcheck // it is the service that is meant
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) write(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) open() *os.Root {
	f.t.Helper()
	root, err := os.OpenRoot(f.root)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = root.Close() })
	return root
}

// edit is one change of a text; an empty one is none.
type edit struct{ path, was, now string }

func (f *fixture) proposal(edits ...edit) patch.Proposal {
	f.t.Helper()
	texts := make(map[string]string)
	set := new(sandbox.ChangeSet)
	for _, e := range edits {
		c := sandbox.Change{Path: e.path, Op: sandbox.OpModify, Mode: 0o644, OldMode: 0o644, Size: int64(len(e.now)), SHA256: hash(e.now), OldSHA256: hash(e.was)}
		if e.was != "" {
			f.write(e.path, e.was)
		} else {
			c.Op, c.OldSHA256, c.OldMode = sandbox.OpAdd, "", 0
		}
		if e.now == "" {
			c.Op, c.SHA256, c.Mode, c.Size = sandbox.OpDelete, "", 0, 0
		}
		texts[e.path] = e.now
		set.Changes = append(set.Changes, c)
	}
	return patch.Proposal{
		Task: "t1", Workspace: "w", Title: "Fix it", Proposer: "plugin:sandbox.x", Set: set, Old: patch.OldFrom(f.open()),
		Content: func(c sandbox.Change) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(texts[c.Path])), nil
		},
	}
}

func hash(text string) string {
	return patch.HashOf([]byte(text))
}

func (f *fixture) propose(edits ...edit) *patch.Patch {
	f.t.Helper()
	p, err := f.Propose(f.t.Context(), f.proposal(edits...))
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// verified takes a patch through verification.
func (f *fixture) verified(p *patch.Patch) *patch.Patch {
	f.t.Helper()
	if _, err := f.StartVerify(f.t.Context(), p.ID, "host"); err != nil {
		f.t.Fatal(err)
	}
	p, err := f.Verified(f.t.Context(), p.ID, p.Hash, "host", patch.Verdict{Passed: true, Detail: []byte(`{"steps":[]}`)})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if err == nil || sdk.FromError(err).Reason != reason {
		t.Errorf("%v, want %s", err, reason)
	}
}

func (f *fixture) wantState(id string, state patch.State) *patch.Patch {
	f.t.Helper()
	p, err := f.Get(f.t.Context(), id)
	if err != nil || p.State != state {
		f.t.Fatalf("%+v, %v, want %s", p, err, state)
	}
	return p
}

func text(t *testing.T, from sandbox.Content, c sandbox.Change) string {
	t.Helper()
	r, err := from(c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheWay(t *testing.T) {
	f := newFixture(t, patch.Options{})
	ctx := t.Context()
	p := f.propose(edit{"a.txt", "a1\n", "a2\n"}, edit{"new.txt", "", "n\n"}, edit{"gone.txt", "g\n", ""})
	if p.State != patch.StateProposed || p.Files != 3 || p.Bytes != 5 || len(p.Hash) != 64 || p.Rule != patch.One || len(p.Risks) > 0 {
		t.Fatalf("%+v", p)
	}
	if got := text(t, f.Content(p), p.Set.Changes[0]); got != "a2\n" {
		t.Errorf("content %q", got)
	}
	if got := text(t, f.OldContent(p), p.Set.Changes[2]); got != "g\n" {
		t.Errorf("old content %q", got)
	}
	diff, err := f.Diff(ctx, p, 1<<20)
	if err != nil || !strings.Contains(diff, "-a1\n+a2\n") || !strings.Contains(diff, "new file mode 100644") || !strings.Contains(diff, "-g\n") {
		t.Errorf("%s, %v", diff, err)
	}
	_, err = f.Approve(ctx, p.ID, p.Hash, "me", "")
	wantReason(t, err, patch.ReasonTransition)
	p = f.verified(p)
	_, err = f.Approve(ctx, p.ID, p.Hash, p.Proposer, "")
	wantReason(t, err, patch.ReasonOwn)
	_, err = f.Approve(ctx, p.ID, hash("other"), "me", "")
	wantReason(t, err, patch.ReasonChanged)
	if _, err = f.CheckApprove(ctx, p.ID, p.Hash, "me", ""); err != nil {
		t.Error(err)
	}
	f.wantState(p.ID, patch.StateVerified)
	if p, err = f.Approve(ctx, p.ID, p.Hash, "me", "fine"); err != nil || p.State != patch.StateApproved || !p.Approved() {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = f.Begin(ctx, p.ID, hash("other"), "sop:flow", "tok")
	wantReason(t, err, patch.ReasonChanged)
	for range 2 { // once it is undone
		if _, err = f.Begin(ctx, p.ID, p.Hash, "sop:flow", "tok"); err != nil {
			t.Fatal(err)
		}
		_, err = f.Deny(ctx, p.ID, "me", "too late")
		wantReason(t, err, patch.ReasonTransition)
		if p, err = f.Undone(ctx, p.ID, "sop:flow", "the host was killed"); err != nil || p.State != patch.StateApproved {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if _, err = f.Begin(ctx, p.ID, p.Hash, "sop:flow", "tok"); err != nil {
		t.Fatal(err)
	}
	_, err = f.BeginRollback(ctx, p.ID, "me", "stop it", "rollback tok") // while it is being integrated
	wantReason(t, err, patch.ReasonTransition)
	if p, err = f.BackedUp(ctx, p.ID, "sop:flow", "snap"); err != nil || p.Backup != "snap" {
		t.Fatalf("%+v, %v", p, err)
	}
	for range 2 {
		if p, err = f.Integrated(ctx, p.ID, "sop:flow", patch.Done{Mode: "worktree"}); err != nil || p.Backup != "snap" || p.IntegratedAt.IsZero() {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if _, err = f.CheckRollback(ctx, p.ID); err != nil {
		t.Error(err)
	}
	if p, err = f.BeginRollback(ctx, p.ID, "me", "it is wrong", "rollback tok"); err != nil || p.Token != "tok" { // it may yet be refused
		t.Fatalf("%+v, %v", p, err)
	}
	if p, err = f.RollbackRefused(ctx, p.ID, "me", "files have changed", "rollback tok"); err != nil || p.State != patch.StateIntegrated || p.Token != "tok" {
		t.Fatalf("%+v, %v", p, err)
	}
	if p, err = f.BeginRollback(ctx, p.ID, "me", "it is wrong", "rollback tok"); err != nil {
		t.Fatalf("%+v, %v", p, err)
	}
	if p, err = f.RolledBack(ctx, p.ID, "me", "it was wrong", patch.Reversal{Token: "rollback tok"}); err != nil || p.State != patch.StateRolledBack || p.Token != "rollback tok" {
		t.Fatalf("%+v, %v", p, err)
	}
	var actions []string
	for _, c := range f.wantState(p.ID, patch.StateRolledBack).History {
		actions = append(actions, string(c.Action))
	}
	want := "proposed verifying verified approved integrating undone integrating undone integrating backed_up integrated rolling_back rollback_refused rolling_back rolled_back"
	if got := strings.Join(actions, " "); got != want {
		t.Errorf("history %s", got)
	}
	if len(f.told) != len(actions) {
		t.Errorf("told %d", len(f.told))
	}
	f.wantAudit(actions)
}

// wantAudit asserts that every change is a record of the audit log.
func (f *fixture) wantAudit(actions []string) {
	f.t.Helper()
	key, err := audit.LoadKey(f.t.TempDir())
	if err != nil {
		f.t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: f.db.Audit(), Key: key})
	if err != nil {
		f.t.Fatal(err)
	}
	page, err := log.List(f.t.Context(), audit.Filter{})
	if err != nil {
		f.t.Fatal(err)
	}
	var got []string
	for _, r := range page.Records {
		got = append(got, strings.TrimPrefix(r.Action, "patch."))
		if r.Attributes["hash"] == "" || r.Attributes["task"] != "t1" || strings.HasPrefix(r.Action, "patch.integrat") && r.Token != "tok" {
			f.t.Errorf("%+v", r)
		}
	}
	if slices.Reverse(got); !slices.Equal(got, actions) {
		if slices.Reverse(got); !slices.Equal(got, actions) {
			f.t.Errorf("audit %v, want %v", got, actions)
		}
	}
}

// underTwo returns a verified patch that two have to approve.
func (f *fixture) underTwo() *patch.Patch {
	f.t.Helper()
	r := f.proposal(edit{"a", "1\n", "2\n"})
	r.Rule = patch.Two
	p, err := f.Propose(f.t.Context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.verified(p)
}

func TestTwoHaveToApprove(t *testing.T) {
	f := newFixture(t, patch.Options{})
	p := f.underTwo()
	var err error
	for _, by := range []string{"me", "me"} { // who says it twice is still one
		if p, err = f.Approve(t.Context(), p.ID, p.Hash, by, ""); err != nil || p.State != patch.StateVerified || len(p.Approvals) != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if p, err = f.Approve(t.Context(), p.ID, p.Hash, "you", ""); err != nil || p.State != patch.StateApproved || len(p.Approvals) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
}

// Verification that is begun again makes consent void: it was given to another
// verdict.
func TestVerifiedAnew(t *testing.T) {
	f := newFixture(t, patch.Options{})
	r := f.proposal(edit{"a", "1\n", "2\n"})
	r.Rule = patch.Two
	p, err := f.Propose(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	p = f.verified(p)
	if _, err = f.Approve(t.Context(), p.ID, p.Hash, "me", ""); err != nil {
		t.Fatal(err)
	}
	if p = f.verified(p); len(p.Approvals) > 0 {
		t.Errorf("%+v", p.Approvals)
	}
	if _, err = f.StartVerify(t.Context(), p.ID, "host"); err != nil {
		t.Fatal(err)
	}
	if p, err = f.VerifyLost(t.Context(), p.ID, "host", "killed"); err != nil || p.State != patch.StateProposed || p.Passed {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err = f.StartVerify(t.Context(), p.ID, "host"); err != nil {
		t.Fatal(err)
	}
	_, err = f.Verified(t.Context(), p.ID, hash("x"), "host", patch.Verdict{Passed: true})
	wantReason(t, err, patch.ReasonChanged)
	if p, err = f.Verified(t.Context(), p.ID, p.Hash, "host", patch.Verdict{Why: "the build fails"}); err != nil || p.State != patch.StateRejected || p.Reason != "the build fails" {
		t.Errorf("%+v, %v", p, err)
	}
	_, err = f.Approve(t.Context(), p.ID, p.Hash, "me", "")
	wantReason(t, err, patch.ReasonTransition)
}

// A rule that asks for more holds for what was verified and approved under another:
// approvals count, and are asked for until there are enough.
func TestTighten(t *testing.T) {
	for name, c := range map[string]struct {
		was, now patch.Rule
		by       []string // who has approved it
		state    patch.State
		needed   int
	}{
		"auto to one":             {patch.Auto, patch.One, nil, patch.StateVerified, 1},
		"auto to two":             {patch.Auto, patch.Two, nil, patch.StateVerified, 2},
		"one to two":              {patch.One, patch.Two, []string{"me"}, patch.StateVerified, 2},
		"one to two, and waiting": {patch.One, patch.Two, nil, patch.StateVerified, 2},
		"two to one":              {patch.Two, patch.One, []string{"me", "you"}, patch.StateApproved, 2},
		"two to two":              {patch.Two, patch.Two, []string{"me"}, patch.StateVerified, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, patch.Options{})
			r := f.proposal(edit{"a", "1\n", "2\n"})
			r.Rule = c.was
			p, err := f.Propose(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			p = f.verified(p)
			if _, _, err = f.AutoApprove(t.Context(), p.ID, "docs"); err != nil {
				t.Fatal(err)
			}
			for _, by := range c.by {
				if _, err = f.Approve(t.Context(), p.ID, p.Hash, by, ""); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // it can be said again
				if p, err = f.Tighten(t.Context(), p.ID, "host", c.now); err != nil || p.State != c.state || p.Needed() != c.needed || len(p.Approvals) != len(c.by) {
					t.Fatalf("%+v, %v", p, err)
				}
			}
			for i := len(c.by); i < c.needed; i++ {
				if p, err = f.Approve(t.Context(), p.ID, p.Hash, fmt.Sprintf("another %d", i), ""); err != nil {
					t.Fatal(err)
				}
			}
			if p.State != patch.StateApproved {
				t.Errorf("with %d approvals it is %s", len(p.Approvals), p.State)
			}
			if _, err = f.Begin(t.Context(), p.ID, p.Hash, "host", ""); err != nil {
				t.Fatal(err)
			}
			if p, err = f.Tighten(t.Context(), p.ID, "host", patch.Two); err != nil || p.State != patch.StateIntegrating {
				t.Errorf("while it is integrated: %+v, %v", p, err)
			}
		})
	}
}

// Approvals of agents that were revoked do not count: neither for what waits for
// others, nor for what is to be integrated.
func TestWithdraw(t *testing.T) {
	revoked := make(map[string]bool)
	f := newFixture(t, patch.Options{Revoked: func(name string) bool { return revoked[name] }})
	p := f.underTwo()
	step := func(state patch.State, who string, do func() (*patch.Patch, error)) {
		t.Helper()
		var err error
		if p, err = do(); err != nil {
			t.Fatal(err)
		}
		var by []string
		for _, a := range p.Approvals {
			by = append(by, a.By)
		}
		if p.State != state || strings.Join(by, " ") != who {
			t.Fatalf("%s, approved by %q; want %s, %q", p.State, by, state, who)
		}
	}
	approve := func(by string) func() (*patch.Patch, error) {
		return func() (*patch.Patch, error) { return f.Approve(t.Context(), p.ID, p.Hash, by, "") }
	}
	withdraw := func() (*patch.Patch, error) { return f.Withdraw(t.Context(), p.ID, "host") }

	step(patch.StateVerified, "one", approve("one"))
	step(patch.StateVerified, "one", withdraw)
	revoked["one"] = true
	step(patch.StateVerified, "two", approve("two")) // the first does not count any more
	step(patch.StateApproved, "two three", approve("three"))
	step(patch.StateApproved, "two three", withdraw)
	revoked["two"] = true
	step(patch.StateVerified, "three", withdraw)
	if p.Reason != "two approved it and was revoked: 1 of 2 have approved it" {
		t.Error(p.Reason)
	}
	step(patch.StateVerified, "three", withdraw)
	revoked["three"] = true
	step(patch.StateVerified, "", withdraw)
	step(patch.StateVerified, "four", approve("four"))
	step(patch.StateApproved, "four five", approve("five"))
	if _, err := f.Begin(t.Context(), p.ID, p.Hash, "host", ""); err != nil {
		t.Fatal(err)
	}
	if err := f.Stands(t.Context(), p.ID, patch.One); err != nil { // two have approved it, as its own rule asks for
		t.Error(err)
	}
	revoked["four"] = true
	step(patch.StateIntegrating, "four five", withdraw)
	wantReason(t, f.Stands(t.Context(), p.ID, patch.One), patch.ReasonUnapproved)
}

func TestAutoApproval(t *testing.T) {
	for name, c := range map[string]struct {
		rule    patch.Rule
		path    string
		verdict patch.Verdict
		want    patch.State
	}{
		"as the rule says":  {patch.Auto, "a.md", patch.Verdict{Passed: true}, patch.StateApproved},
		"the rule says one": {patch.One, "a.md", patch.Verdict{Passed: true}, patch.StateVerified},
		"not passed":        {patch.Auto, "a.md", patch.Verdict{}, patch.StateRejected},
		"a risk":            {patch.Auto, ".travis.yml", patch.Verdict{Passed: true}, patch.StateVerified},
		"coverage lowered":  {patch.Auto, "a.go", patch.Verdict{Passed: true, CoverageLowered: true}, patch.StateVerified},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, patch.Options{})
			r := f.proposal(edit{c.path, "1\n", "2\n"})
			r.Rule = c.rule
			p, err := f.Propose(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok, err := f.AutoApprove(t.Context(), p.ID, "docs"); ok || err != nil {
				t.Errorf("not yet verified: %v, %v", ok, err)
			}
			if _, err = f.StartVerify(t.Context(), p.ID, "host"); err != nil {
				t.Fatal(err)
			}
			if _, err = f.Verified(t.Context(), p.ID, p.Hash, "host", c.verdict); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, ok, err := f.AutoApprove(t.Context(), p.ID, "docs"); err != nil || ok != (c.want == patch.StateApproved) {
					t.Errorf("%v, %v", ok, err)
				}
			}
			f.wantState(p.ID, c.want)
		})
	}
}

func TestDenied(t *testing.T) {
	f := newFixture(t, patch.Options{})
	p := f.verified(f.propose(edit{"a", "1\n", "2\n"}))
	_, err := f.Deny(t.Context(), p.ID, "me", " ")
	wantReason(t, err, patch.ReasonInvalid)
	if p, err = f.CheckDeny(t.Context(), p.ID, "me", "no"); err != nil {
		t.Error(err)
	}
	if p, err = f.Deny(t.Context(), p.ID, "me", "no"); err != nil || p.State != patch.StateDenied || p.Reason != "no" {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = f.Approve(t.Context(), p.ID, p.Hash, "you", "")
	wantReason(t, err, patch.ReasonTransition)
	_, err = f.Begin(t.Context(), p.ID, p.Hash, "host", "")
	wantReason(t, err, patch.ReasonTransition)
}

func TestRisks(t *testing.T) {
	tests := "package a\n\nfunc TestA(t *testing.T) {}\n\nfunc TestB(t *testing.T) {}\n"
	for name, c := range map[string]struct {
		edit edit
		mode uint32
		want string
	}{
		"none":              {edit{"a.go", "a\n", "b\n"}, 0o644, ""},
		"ci":                {edit{".github/workflows/x.yml", "a\n", "b\n"}, 0o644, "ci"},
		"agent":             {edit{"AGENTS.md", "a\n", "b\n"}, 0o644, "agent_config"},
		"editor":            {edit{".envrc", "a\n", "b\n"}, 0o644, "tool_config"},
		"directory of auth": {edit{"internal/auth/x.go", "a\n", "b\n"}, 0o644, "security"},
		"file of auth":      {edit{"internal/authz.go", "a\n", "b\n"}, 0o644, "security"},
		"author is no auth": {edit{"author.go", "a\n", "b\n"}, 0o644, ""},
		"owners":            {edit{"docs/CODEOWNERS", "", "b\n"}, 0o644, "security"},
		"key":               {edit{"x.pem", "", "b\n"}, 0o644, "security"},
		"executable":        {edit{"x.sh", "a\n", "b\n"}, 0o755, "security"},
		"test gone":         {edit{"a_test.go", tests, ""}, 0, "tests_deleted"},
		"test less":         {edit{"a_test.go", tests, tests[:40]}, 0o644, "tests_deleted"},
		"test changed":      {edit{"a_test.go", tests, strings.ReplaceAll(tests, "{}", "{ t.Parallel() }")}, 0o644, ""},
		"python":            {edit{"tests/test_a.py", "def test_a():\n    pass\n", "def a():\n    pass\n"}, 0o644, "tests_deleted"},
		"javascript":        {edit{"a.spec.ts", "it('x', () => {})\nit('y', () => {})\n", "it('x', () => {})\n"}, 0o644, "tests_deleted"},
		"not a test":        {edit{"contest.go", tests, ""}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, patch.Options{})
			r := f.proposal(c.edit)
			r.Set.Changes[0].Mode = c.mode
			p, err := f.Propose(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, risk := range p.Risks {
				got = append(got, string(risk))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, want %q", got, c.want)
			}
		})
	}
}

func TestProposeRefuses(t *testing.T) {
	f := newFixture(t, patch.Options{MaxBytes: 20})
	for name, change := range map[string]func(*patch.Proposal){
		"nobody":   func(r *patch.Proposal) { r.Proposer = "" },
		"nowhere":  func(r *patch.Proposal) { r.Workspace = "" },
		"a space":  func(r *patch.Proposal) { r.Task = "a b" },
		"rule":     func(r *patch.Proposal) { r.Rule = "three" },
		"title":    func(r *patch.Proposal) { r.Title = "a\nb" },
		"rejected": func(r *patch.Proposal) { r.Set.Rejected = []sandbox.Rejection{{Path: "x", Why: "y"}} },
		"nothing":  func(r *patch.Proposal) { r.Set.Changes = nil },
		"evidence": func(r *patch.Proposal) { r.Evidence = []byte("{") },
	} {
		r := f.proposal(edit{"a", "1\n", "2\n"})
		change(&r)
		_, err := f.Propose(t.Context(), r)
		t.Run(name, func(t *testing.T) { wantReason(t, err, patch.ReasonInvalid) })
	}
	r := f.proposal(edit{"a", "1\n", "2\n"})
	r.Set.Changes[0].SHA256 = hash("other")
	if _, err := f.Propose(t.Context(), r); err == nil || !strings.Contains(err.Error(), "a: the new content: it does not have the hash") {
		t.Errorf("%v", err)
	}
	r = f.proposal(edit{"a", "1\n", "2\n"})
	f.write("a", "changed meanwhile\n")
	if _, err := f.Propose(t.Context(), r); err == nil || !strings.Contains(err.Error(), "a: what it replaces:") {
		t.Errorf("%v", err)
	}
	_, err := f.Propose(t.Context(), f.proposal(edit{"a", "1\n", strings.Repeat("x", 20)}))
	wantReason(t, err, patch.ReasonFull)
	page, err := f.List(t.Context(), patch.Filter{})
	if err != nil || len(page.Patches) > 0 {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestProposedOnce(t *testing.T) {
	f := newFixture(t, patch.Options{})
	r := f.proposal(edit{"a", "1\n", "2\n"})
	r.Key = "run:7"
	p, err := f.Propose(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Propose(t.Context(), r)
	if err != nil || again.ID != p.ID || len(f.told) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestSuperseded(t *testing.T) {
	f := newFixture(t, patch.Options{})
	p := f.verified(f.propose(edit{"a", "1\n", "2\n"}))
	r := f.proposal(edit{"a", "1\n", "3\n"})
	r.Supersedes = p.ID
	next, err := f.Propose(t.Context(), r)
	if err != nil || next.Supersedes != p.ID || next.Hash == p.Hash {
		t.Fatalf("%+v, %v", next, err)
	}
	if old := f.wantState(p.ID, patch.StateSuperseded); old.SupersededBy != next.ID {
		t.Errorf("%+v", old)
	}
	_, err = f.Approve(t.Context(), p.ID, p.Hash, "me", "")
	wantReason(t, err, patch.ReasonTransition)
}

func TestRebase(t *testing.T) {
	lines := strings.Repeat("line\n", 20)
	for name, c := range map[string]struct {
		edits  []edit
		change func(f *fixture)
		want   map[string]string // new content; nil: the same patch
		reason string
		over   bool // nothing is left
	}{
		"not moved":          {edits: []edit{{"a", "1\n", "2\n"}, {"b", "", "b\n"}, {"c", "c\n", ""}}, change: func(*fixture) {}},
		"another file":       {edits: []edit{{"a", "1\n", "2\n"}}, change: func(f *fixture) { f.write("z", "z\n") }},
		"another place":      {edits: []edit{{"a", "1\n" + lines + "end\n", "2\n" + lines + "end\n"}}, change: func(f *fixture) { f.write("a", "1\n"+lines+"mine\n") }, want: map[string]string{"a": "2\n" + lines + "mine\n"}},
		"the same place":     {edits: []edit{{"a", "1\n", "2\n"}}, change: func(f *fixture) { f.write("a", "3\n") }, reason: patch.ReasonRebase},
		"something is there": {edits: []edit{{"b", "", "b\n"}}, change: func(f *fixture) { f.write("b", "mine\n") }, reason: patch.ReasonRebase},
		"deleted and edited": {edits: []edit{{"c", "c\n", ""}}, change: func(f *fixture) { f.write("c", "mine\n") }, reason: patch.ReasonRebase},
		"made already":       {edits: []edit{{"a", "1\n", "2\n"}}, change: func(f *fixture) { f.write("a", "2\n") }, over: true},
		"half made already":  {edits: []edit{{"a", "1\n", "2\n"}, {"b", "", "b\n"}}, change: func(f *fixture) { f.write("a", "2\n") }, want: map[string]string{"b": "b\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, patch.Options{})
			p := f.verified(f.propose(c.edits...))
			p, err := f.Approve(t.Context(), p.ID, p.Hash, "me", "")
			if err != nil {
				t.Fatal(err)
			}
			c.change(f)
			next, err := f.Rebase(t.Context(), p.ID, f.open(), "sop:flow")
			switch {
			case c.reason != "":
				wantReason(t, err, c.reason)
				f.wantState(p.ID, patch.StateApproved)
			case err != nil:
				t.Fatal(err)
			case c.over:
				if next.ID != p.ID || next.State != patch.StateSuperseded {
					t.Errorf("%+v", next)
				}
			case c.want == nil:
				if next.ID != p.ID || next.State != patch.StateApproved {
					t.Errorf("%+v", next)
				}
			default:
				f.wantState(p.ID, patch.StateSuperseded)
				if next.State != patch.StateProposed || next.Hash == p.Hash || next.Passed || len(next.Approvals) > 0 || len(next.Set.Changes) != len(c.want) {
					t.Fatalf("%+v", next)
				}
				for _, one := range next.Set.Changes {
					if got := text(t, f.Content(next), one); got != c.want[one.Path] {
						t.Errorf("%s: %q", one.Path, got)
					}
				}
			}
		})
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t, patch.Options{Keep: time.Hour})
	denied, waiting := f.propose(edit{"a", "1\n", "2\n"}), f.propose(edit{"b", "1\n", "3\n"})
	if _, err := f.Deny(t.Context(), denied.ID, "me", "no"); err != nil {
		t.Fatal(err)
	}
	if freed, err := f.Prune(t.Context()); err != nil || freed != 0 {
		t.Errorf("freed %d, %v", freed, err)
	}
	f.now = f.now.Add(3 * time.Hour)
	if freed, err := f.Prune(t.Context()); err != nil || freed != 2 { // the new content; the old is that of the other patch, too
		t.Errorf("freed %d, %v", freed, err)
	}
	for _, c := range waiting.Set.Changes {
		if text(t, f.Content(waiting), c) != "3\n" || text(t, f.OldContent(waiting), c) != "1\n" {
			t.Error("content of a patch that waits is gone")
		}
	}
	p := f.wantState(denied.ID, patch.StateDenied)
	_, err := f.Content(p)(p.Set.Changes[0])
	wantReason(t, err, patch.ReasonDropped)
	_, err = f.Diff(t.Context(), p, 1000)
	wantReason(t, err, patch.ReasonDropped)
}

// Content that is damaged on disk is not passed off as what was approved.
func TestDamagedContent(t *testing.T) {
	f := newFixture(t, patch.Options{})
	p := f.propose(edit{"a", "1\n", "2\n"})
	name := filepath.Join(f.dir, p.Set.Changes[0].SHA256[:2], p.Set.Changes[0].SHA256[2:])
	if err := os.WriteFile(name, []byte("X\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(io.Reader) error{
		"read": func(r io.Reader) error { _, err := io.ReadAll(r); return err },
		"copy": func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err },
	} {
		r, err := f.Content(p)(p.Set.Changes[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := read(r); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		_ = r.Close()
	}
}

func TestCanonicalHash(t *testing.T) {
	a := sandbox.Change{Path: "a", Op: sandbox.OpModify, Mode: 0o644, SHA256: "x", OldSHA256: "y", OldMode: 0o644}
	b := sandbox.Change{Path: "b", Op: sandbox.OpSymlink, Target: "a", SHA256: "z"}
	base := patch.Hash(&sandbox.ChangeSet{Changes: []sandbox.Change{a, b}})
	if patch.Hash(&sandbox.ChangeSet{Changes: []sandbox.Change{b, a}}) != base {
		t.Error("the order counts")
	}
	seen := map[string]bool{base: true}
	for _, change := range []func(*sandbox.Change){
		func(c *sandbox.Change) { c.Path = "c" }, func(c *sandbox.Change) { c.Op = sandbox.OpChmod }, func(c *sandbox.Change) { c.Mode = 0o600 },
		func(c *sandbox.Change) { c.SHA256 = "w" }, func(c *sandbox.Change) { c.OldSHA256 = "w" }, func(c *sandbox.Change) { c.Target = "w" },
		func(c *sandbox.Change) { c.OldMode = 0o600 }, func(c *sandbox.Change) { c.OldDir = true },
	} {
		other := a
		change(&other)
		if h := patch.Hash(&sandbox.ChangeSet{Changes: []sandbox.Change{other, b}}); seen[h] {
			t.Errorf("%+v has the hash of another", other)
		} else {
			seen[h] = true
		}
	}
}

// From every state, the service does what the table says, and nothing else.
func TestTransitions(t *testing.T) {
	do := map[patch.State]func(ctx context.Context, f *fixture, p *patch.Patch) error{
		patch.StateVerifying: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.StartVerify(ctx, p.ID, "host")
			return err
		},
		patch.StateProposed: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.VerifyAgain(ctx, p.ID, "host", "a step has come")
			return err
		},
		patch.StateVerified: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			if p.State == patch.StateApproved {
				_, err := f.Tighten(ctx, p.ID, "host", patch.Two)
				return err
			}
			_, err := f.Verified(ctx, p.ID, p.Hash, "host", patch.Verdict{Passed: true})
			return err
		},
		patch.StateRejected: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.Reject(ctx, p.ID, "host", "")
			return err
		},
		patch.StateApproved: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.Approve(ctx, p.ID, p.Hash, "me", "")
			if p.State == patch.StateIntegrating {
				_, err = f.Undone(ctx, p.ID, "host", "")
			}
			return err
		},
		patch.StateDenied: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.Deny(ctx, p.ID, "me", "no")
			return err
		},
		patch.StateIntegrating: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.Begin(ctx, p.ID, p.Hash, "host", "")
			return err
		},
		patch.StateIntegrated: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.Integrated(ctx, p.ID, "host", patch.Done{})
			return err
		},
		patch.StateRolledBack: func(ctx context.Context, f *fixture, p *patch.Patch) error {
			_, err := f.RolledBack(ctx, p.ID, "host", "", patch.Reversal{})
			return err
		},
	}
	way := map[patch.State][]patch.State{
		patch.StateProposed: nil, patch.StateVerifying: {patch.StateVerifying}, patch.StateVerified: {patch.StateVerifying, patch.StateVerified},
		patch.StateRejected: {patch.StateRejected}, patch.StateDenied: {patch.StateDenied},
	}
	way[patch.StateApproved] = append(slices.Clone(way[patch.StateVerified]), patch.StateApproved)
	way[patch.StateIntegrating] = append(slices.Clone(way[patch.StateApproved]), patch.StateIntegrating)
	way[patch.StateIntegrated] = append(slices.Clone(way[patch.StateIntegrating]), patch.StateIntegrated)
	way[patch.StateRolledBack] = append(slices.Clone(way[patch.StateIntegrated]), patch.StateRolledBack)
	f := newFixture(t, patch.Options{})
	for from, steps := range way {
		for to, act := range do {
			p := f.propose(edit{"a", "1\n", "2\n"})
			for _, step := range steps {
				if err := do[step](t.Context(), f, p); err != nil {
					t.Fatalf("on the way to %s: %v", from, err)
				}
			}
			p = f.wantState(p.ID, from)
			err := act(t.Context(), f, p)
			switch {
			case patch.CanGo(from, to):
				if err != nil {
					t.Errorf("%s → %s: %v", from, to, err)
				}
				f.wantState(p.ID, to)
			case from == to: // saying it twice is no error everywhere, and changes nothing
				f.wantState(p.ID, from)
			default:
				if err == nil {
					t.Errorf("%s → %s is not in the table", from, to)
				}
				f.wantState(p.ID, from)
			}
		}
	}
}
