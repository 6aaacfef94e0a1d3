package startup

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/task"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

const wordsRule = "rule \"words\" {\n  match {\n    rule = \"words.*\"\n  }\n}\n"

// awaitTasks asks for tasks until the condition holds.
func (s *site) awaitTasks(c apiv1connect.TaskClient, states []string, until func([]*apiv1.TaskRecord) bool) []*apiv1.TaskRecord {
	s.t.Helper()
	events := apiv1connect.NewEventClient(s.http(), "http://sop")
	stream, err := events.Watch(s.t.Context(), connect.NewRequest(&apiv1.WatchRequest{}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer stream.Close()
	for {
		answer, err := c.ListTasks(s.t.Context(), connect.NewRequest(&apiv1.ListTasksRequest{States: states}))
		if err != nil {
			s.t.Fatal(err)
		}
		if until(answer.Msg.GetTasks()) {
			return answer.Msg.GetTasks()
		}
		if !stream.Receive() {
			s.t.Fatalf("no more events: %v", stream.Err())
		}
	}
}

// TestAnAgentFromOutside does what one does: claim, heartbeat, submit, verdict. A
// scan makes the task, and closes another whose gap goes by itself.
func TestAnAgentFromOutside(t *testing.T) {
	s := newSite(t)
	s.write("work/sub/b.txt", "bad\n")
	s.configure(wordsRule)
	s.lock()
	s.start()
	ctx := t.Context()
	c := apiv1connect.NewTaskClient(s.http(), "http://sop")
	ready := s.awaitTasks(c, []string{"ready"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 2 })
	of := func(target string) *apiv1.TaskRecord {
		i := slices.IndexFunc(ready, func(r *apiv1.TaskRecord) bool { return r.GetTarget() == target })
		if i < 0 {
			t.Fatalf("no task for %s in %v", target, ready)
		}
		return ready[i]
	}
	first, second := of("a.txt"), of("sub/b.txt")

	claim, err := c.ClaimTask(ctx, connect.NewRequest(&apiv1.ClaimTaskRequest{Id: first.GetId()}))
	if err != nil {
		t.Fatal(err)
	}
	id, secret, fence := claim.Msg.GetTask().GetId(), claim.Msg.GetToken(), claim.Msg.GetTask().GetFence()
	target := claim.Msg.GetPackage().AsMap()["target"].(map[string]any)
	if secret == "" || target["content"] != "bad\n" {
		t.Fatalf("claimed %+v", claim.Msg)
	}
	if _, err := c.ClaimTask(ctx, connect.NewRequest(&apiv1.ClaimTaskRequest{Id: id})); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("claimed twice: %v", err)
	}
	beat := func(on, with string, fence int64) error {
		_, err := c.HeartbeatTask(ctx, connect.NewRequest(&apiv1.HeartbeatTaskRequest{Id: on, Token: with, Fence: fence}))
		return err
	}
	if err := beat(id, secret, fence); err != nil {
		t.Error(err)
	}
	if err := beat(id, secret, fence+1); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("under another fence: %v", err)
	}
	if err := beat(second.GetId(), secret, 0); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("with the token of another task: %v", err)
	}
	submit := &apiv1.SubmitTaskRequest{
		Id: id, Token: secret, Fence: fence, Explanation: "good instead",
		Files: []*apiv1.SubmittedFile{
			{Path: "a.txt", Op: "put", Content: []byte("good\n"), OldSha256: target["sha256"].(string)},
			{Path: "new/dir/c.txt", Op: "add", Content: []byte("c")},
		},
	}
	answer, err := c.SubmitTask(ctx, connect.NewRequest(submit))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Msg.GetPatch() == "" || answer.Msg.GetTask().GetState() != "proposed" {
		t.Errorf("submitted %+v", answer.Msg)
	}
	if _, err := c.SubmitTask(ctx, connect.NewRequest(submit)); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("submitted again: %v", err)
	}
	verdict, err := c.GetTaskVerdict(ctx, connect.NewRequest(&apiv1.GetTaskVerdictRequest{Id: id, Token: secret}))
	if err != nil || verdict.Msg.GetState() == "" || verdict.Msg.GetPatch() != answer.Msg.GetPatch() {
		t.Errorf("%+v, %v", verdict, err)
	}
	if content, err := os.ReadFile(filepath.Join(s.dir, "work/a.txt")); string(content) != "bad\n" {
		t.Errorf("a submission changed the workspace: %q, %v", content, err)
	}

	// The other gap goes by itself, and takes its task along.
	s.write("work/sub/b.txt", "fine\n")
	if _, err := apiv1connect.NewWorkspaceClient(s.http(), "http://sop").ScanWorkspace(ctx, connect.NewRequest(&apiv1.ScanWorkspaceRequest{Workspace: "main"})); err != nil {
		t.Fatal(err)
	}
	done := s.awaitTasks(c, []string{"done"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
	if done[0].GetId() != second.GetId() {
		t.Errorf("done is %v", done)
	}
}

// TestSubmissionsAreJudged: what an agent submits is refused and flagged as what a
// run leaves is, also when it only asks.
func TestSubmissionsAreJudged(t *testing.T) {
	s := newSite(t)
	s.configure(strings.Replace(wordsRule, "  }\n}", "  }\n  approval = \"auto\"\n}", 1))
	s.lock()
	s.start()
	ctx := t.Context()
	c := apiv1connect.NewTaskClient(s.http(), "http://sop")
	ready := s.awaitTasks(c, []string{"ready"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
	claim, err := c.ClaimTask(ctx, connect.NewRequest(&apiv1.ClaimTaskRequest{Id: ready[0].GetId()}))
	if err != nil {
		t.Fatal(err)
	}
	submit := func(only bool, files ...*apiv1.SubmittedFile) (*apiv1.SubmitTaskResponse, error) {
		answer, err := c.SubmitTask(ctx, connect.NewRequest(&apiv1.SubmitTaskRequest{
			Id: ready[0].GetId(), Token: claim.Msg.GetToken(), Fence: claim.Msg.GetTask().GetFence(), ValidateOnly: only, Files: files,
		}))
		if err != nil {
			return nil, err
		}
		return answer.Msg, nil
	}
	add := func(name string) *apiv1.SubmittedFile {
		return &apiv1.SubmittedFile{Path: name, Op: "add", Content: []byte("x\n")}
	}
	link := func(name, target string) *apiv1.SubmittedFile {
		return &apiv1.SubmittedFile{Path: name, Op: "symlink", Target: target}
	}
	for why, files := range map[string][]*apiv1.SubmittedFile{
		"a link that leads outside": {link("d/up", ".."), link("d/out", "up/../sop.db")},
		"git's own":                 {add("d/GIT~1/hooks/x")},
		"the host's own":            {add(".sop-integration/x")},
		"only the case":             {add("A.txt")},
		"a backslash":               {add(`a\b`)},
		"cannot be two things":      {add("x"), add("x/y")},
	} {
		for _, only := range []bool{true, false} {
			if answer, err := submit(only, files...); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), why) {
				t.Errorf("%s, validate_only %t: %v, %v", why, only, answer, err)
			}
		}
	}
	answer, err := submit(false, add(".github/workflows/x.yml"), add("CLAUDE.md"), add(".envrc"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := apiv1connect.NewPatchClient(s.http(), "http://sop").GetPatch(ctx, connect.NewRequest(&apiv1.GetPatchRequest{Id: answer.GetPatch()}))
	if err != nil || !slices.Equal(got.Msg.GetPatch().GetRisks(), []string{"agent_config", "ci", "tool_config"}) {
		t.Errorf("risks %v, %v", got.Msg.GetPatch().GetRisks(), err)
	}
}

// TestSubmitAnotherType: a link that becomes a file and a file that becomes a link
// can be integrated.
func TestSubmitAnotherType(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("text\n"), 0o600), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	submitted := []task.ProposedChange{
		{Path: "file", Op: task.OpDelete, OldMode: 0o600, OldSHA256: patch.HashOf([]byte("text\n"))},
		{Path: "file", Op: task.OpSymlink, Mode: 0o644, SHA256: patch.HashOf([]byte("link")), Target: "link"},
		{Path: "link", Op: task.OpAdd, Mode: 0o644, SHA256: patch.HashOf([]byte("a file\n")), Content: []byte("a file\n")},
		{Path: "link", Op: task.OpDelete, OldMode: 0o777, OldSHA256: patch.HashOf([]byte("file"))},
	}
	set, err := changeSet(root, submitted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := integration.New(integration.Options{}).Integrate(t.Context(), integration.Request{
		Root: dir, ID: "p1", Set: set, Content: contentOf(submitted), Mode: integration.WorkTree,
	}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(link)
	target, notALink := os.Readlink(file)
	if string(text) != "a file\n" || err != nil || target != "link" || notALink != nil {
		t.Errorf("%q, %v; %q, %v", text, err, target, notALink)
	}
}

// TestRulesAreReloaded: tasks follow the rules as they are.
func TestRulesAreReloaded(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	c := apiv1connect.NewTaskClient(s.http(), "http://sop")
	s.await("scanned", func(st *apiv1.Status) bool { return st.GetGaps().GetHigh() == 1 })
	if answer, err := c.ListTasks(t.Context(), connect.NewRequest(&apiv1.ListTasksRequest{})); err != nil || len(answer.Msg.GetTasks()) != 0 {
		t.Fatalf("without a rule: %v, %v", answer, err)
	}
	s.configure(wordsRule)
	s.awaitTasks(c, nil, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 && all[0].GetRoute() == "words" })
	s.configure(strings.ReplaceAll(wordsRule, `"words"`, `"others"`))
	s.awaitTasks(c, nil, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 && all[0].GetRoute() == "others" })
}

// A host that was killed when a patch was taken back, and not yet said so, says it
// of patch and task when it starts: the gap that is there again is no new task.
func TestKilledWhileRollingBack(t *testing.T) {
	s := newSite(t)
	s.configure(wordsRule)
	s.lock()
	s.start()
	made := s.awaitTasks(s.tasks(), []string{"ready"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
	s.end()
	proposed := s.integrateAndKill(made[0].GetId(), true)
	s.write("work/sub/b.txt", "bad\n") // a task of its own, planned together with what else there is
	s.start()
	now := s.awaitTasks(s.tasks(), []string{"ready", "rolled_back"}, func(all []*apiv1.TaskRecord) bool { return len(all) >= 2 })
	if i := slices.IndexFunc(now, func(r *apiv1.TaskRecord) bool { return r.GetState() == "rolled_back" }); len(now) > 2 || i < 0 || now[i].GetId() != made[0].GetId() {
		t.Errorf("%v", now)
	}
	one, err := apiv1connect.NewPatchClient(s.http(), "http://sop").GetPatch(t.Context(), connect.NewRequest(&apiv1.GetPatchRequest{Id: proposed}))
	if err != nil || one.Msg.GetPatch().GetState() != "rolled_back" || one.Msg.GetPatch().GetToken() != "of a rollback" {
		t.Errorf("%v, %v", one, err)
	}
}

// A rollback that is refused is one to whoever only asks, and in the history.
func TestRollbackIsRefused(t *testing.T) {
	s := newSite(t)
	s.configure(wordsRule)
	s.lock()
	s.start()
	made := s.awaitTasks(s.tasks(), []string{"ready"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
	s.end()
	id := s.integrateAndKill(made[0].GetId(), false)
	s.write("work/a.txt", "edited\n")
	s.start()
	c := apiv1connect.NewPatchClient(s.http(), "http://sop")
	for _, only := range []bool{true, false} {
		for _, merge := range []bool{false, true} {
			_, err := c.RollbackPatch(t.Context(), connect.NewRequest(&apiv1.RollbackPatchRequest{Id: id, ValidateOnly: only, Merge: merge}))
			if err == nil || !strings.Contains(err.Error(), "a.txt") {
				t.Errorf("only validated %v, merged %v: %v", only, merge, err)
			}
		}
	}
	now, err := c.GetPatch(t.Context(), connect.NewRequest(&apiv1.GetPatchRequest{Id: id}))
	if err != nil || now.Msg.GetPatch().GetState() != "integrated" {
		t.Fatalf("%v, %v", now, err)
	}
	var told []string
	for _, h := range now.Msg.GetPatch().GetHistory() {
		if strings.HasPrefix(h.GetAction(), "roll") {
			told = append(told, h.GetAction()+": "+h.GetReason())
		}
	}
	if len(told) != 4 || told[0] != "rolling_back: rollback has begun" || !strings.HasPrefix(told[1], "rollback_refused: files have changed") ||
		!strings.HasPrefix(told[3], "rollback_refused: edits made since cannot be merged: a.txt") {
		t.Errorf("%q", told)
	}
}

// What was left half done in a workspace is brought to rest, too, when a reload adds
// it, or has it elsewhere.
func TestWorkspaceComesByReload(t *testing.T) {
	for what, before := range map[string]string{"added": "", "elsewhere": "workspace \"main\" {\n  path = \"other\"\n}\n"} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			s.configure(wordsRule)
			s.lock()
			s.start()
			made := s.awaitTasks(s.tasks(), []string{"ready"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
			s.end()
			proposed := s.integrateAndKill(made[0].GetId(), true)
			s.write("work/half.txt", "as it was\n")
			killed(t, filepath.Join(s.dir, "work"), "half.txt", "half done\n")

			s.write("other/c.txt", "good\n")
			text, err := os.ReadFile(s.config)
			if err != nil {
				t.Fatal(err)
			}
			s.write("config.hcl", strings.Replace(string(text), "workspace \"main\" {\n  path = \"work\"\n}\n", before, 1))
			s.start()
			s.configure(wordsRule)
			s.awaitTasks(s.tasks(), []string{"rolled_back"}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
			one, err := apiv1connect.NewPatchClient(s.http(), "http://sop").GetPatch(t.Context(), connect.NewRequest(&apiv1.GetPatchRequest{Id: proposed}))
			if err != nil || one.Msg.GetPatch().GetState() != "rolled_back" {
				t.Errorf("%v, %v", one, err)
			}
			if now, err := os.ReadFile(filepath.Join(s.dir, "work/half.txt")); err != nil || string(now) != "as it was\n" {
				t.Errorf("%q, %v", now, err)
			}
		})
	}
}

// killed integrates one file as a host does that is killed when it is exchanged.
func killed(t *testing.T, root, name, now string) {
	t.Helper()
	path := filepath.Join(root, name)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mode := uint32(info.Mode().Perm())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = integration.New(integration.Options{}).Integrate(t.Context(), integration.Request{
			Root: root, ID: "half", Mode: integration.WorkTree,
			Set: &sandbox.ChangeSet{Changes: []sandbox.Change{{
				Path: name, Op: sandbox.OpModify, Mode: mode, OldMode: mode, Size: int64(len(now)),
				SHA256: patch.HashOf([]byte(now)), OldSHA256: patch.HashOf(was),
			}}},
			Content: func(sandbox.Change) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(now)), nil },
			Check:   func(context.Context, string) error { runtime.Goexit(); return nil },
		})
	}()
	<-done
	if text, err := os.ReadFile(path); err != nil || string(text) != now {
		t.Fatalf("%q, %v", text, err)
	}
}

func (s *site) tasks() apiv1connect.TaskClient {
	return apiv1connect.NewTaskClient(s.http(), "http://sop")
}

// integrateAndKill has a task done with a patch, and leaves all as a host does that
// is killed then, or when it has taken the patch back and not said so. It returns the
// patch.
func (s *site) integrateAndKill(id string, back bool) string {
	s.t.Helper()
	ctx, by := s.t.Context(), "test"
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	dir, work := dataDir(filepath.Join(s.dir, "data")), filepath.Join(s.dir, "work")
	db, err := store.Open(ctx, dir.database())
	must(err)
	defer func() { must(db.Close()) }()
	key, err := audit.LoadKey(dir.join("state"))
	must(err)
	_, err = audit.NewLog(audit.Options{Store: db.Audit(), Key: key})
	must(err)
	patches, err := patch.NewService(db.Patches(), patch.Options{Dir: dir.patches()})
	must(err)
	defer func() { must(patches.Close()) }()
	root, err := os.OpenRoot(work)
	must(err)
	defer func() { must(root.Close()) }()
	info, err := root.Stat("a.txt")
	must(err)
	mode := uint32(info.Mode().Perm())
	set := &sandbox.ChangeSet{Changes: []sandbox.Change{{
		Path: "a.txt", Op: sandbox.OpModify, Mode: mode, OldMode: mode, Size: 5,
		SHA256: patch.HashOf([]byte("good\n")), OldSHA256: patch.HashOf([]byte("bad\n")),
	}}}
	p, err := patches.Propose(ctx, patch.Proposal{
		Task: id, Workspace: "main", Proposer: by, Set: set, Old: patch.OldFrom(root),
		Content: func(sandbox.Change) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("good\n")), nil },
	})
	must(err)
	_, err = patches.StartVerify(ctx, p.ID, by)
	must(err)
	_, err = patches.Verified(ctx, p.ID, p.Hash, by, patch.Verdict{Passed: true})
	must(err)
	_, err = patches.Approve(ctx, p.ID, p.Hash, "somebody", "")
	must(err)
	_, err = patches.Begin(ctx, p.ID, p.Hash, by, "of an integration")
	must(err)
	integrator := integration.New(integration.Options{})
	_, err = integrator.Integrate(ctx, integration.Request{Root: work, ID: p.ID, Set: set, Content: patches.Content(p), Mode: integration.WorkTree})
	must(err)
	_, err = patches.Integrated(ctx, p.ID, by, patch.Done{Mode: string(integration.WorkTree)})
	must(err)

	tasks := task.NewService(db.Tasks(), task.Options{})
	t, err := tasks.Claim(ctx, task.ClaimRequest{ID: id, Stage: task.StageGenerate, By: by})
	must(err)
	must(db.Gaps().Update(ctx, func(tx gap.Tx) error { // as the scan does that finds it gone
		g, err := tx.Get(ctx, t.Gaps[0])
		if err == nil {
			g.State = gap.StateResolved
			err = tx.Put(ctx, []*gap.Gap{g}, nil)
		}
		return err
	}))
	for _, step := range []task.Step{
		{To: task.StateRunning},
		{To: task.StateProposed, Patch: p.ID},
		{To: task.StateApproved},
		{To: task.StateDone},
	} {
		stage := map[task.State]task.Stage{task.StateApproved: task.StageVerify, task.StateDone: task.StageIntegrate}[step.To]
		if stage != "" {
			t, err = tasks.Claim(ctx, task.ClaimRequest{ID: id, Stage: stage, By: by})
			must(err)
		}
		t, err = tasks.Advance(ctx, t.Hold(), step)
		must(err)
	}
	if !back {
		return p.ID
	}
	_, err = patches.BeginRollback(ctx, p.ID, "somebody", "not so", "of a rollback")
	must(err)
	_, err = integrator.Rollback(ctx, integration.RollbackRequest{Root: work, ID: p.ID})
	must(err)
	return p.ID
}
