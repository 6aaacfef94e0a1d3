package generate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
	"github.com/sop-host/sop/sdk/plugintest"
)

var backgroundContext = context.Background()

func paths(set *sandbox.ChangeSet) (lines []string) {
	if set == nil {
		return nil
	}
	for _, c := range set.Changes {
		lines = append(lines, string(c.Op)+" "+c.Path)
	}
	return lines
}

// A generator gets its task, its prompt and a place for claims; what it changed
// is what the host saw.
func TestRun(t *testing.T) {
	b := script(t, `
		cat > stdin.txt; cp "$SOP_PROMPT" prompt.txt; cp "$SOP_TASK" task.json
		echo new > a.txt; rm -f gone; echo progress; echo problem >&2
		echo '{"phase":"editing","message":"a.txt"}' >> "$SOP_OUT/events.jsonl"
		echo '{"contract":"sop.generator/v1","outcome":"changed","explanation":"It is new.","cost":{"money":0.5,"model_tokens":12}}' > "$SOP_OUT/result.json"
		env | sort > env.txt; exit 0`)
	b.write("gone", "x")
	var events []Event
	run, err := b.runner.Run(t.Context(), b.request(plainTask), func(e Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if run.Outcome != Changed || run.Code != 0 || run.Explanation != "It is new." || run.Properties["money"] != "0.5" || run.Properties["model_tokens"] != "12" {
		t.Errorf("%v, code %d, %q, %v, %v", run.Outcome, run.Code, run.Explanation, run.Properties, run.Err)
	}
	if run.Output.Stdout.Text != "progress\n" || run.Output.Stderr.Text != "problem\n" {
		t.Errorf("output %+v", run.Output)
	}
	if got := strings.Join(paths(run.Changes), "; "); got != "delete gone; modify a.txt; add env.txt; add prompt.txt; add stdin.txt; add task.json" && len(paths(run.Changes)) != 6 {
		t.Errorf("changes %s", got)
	}
	if run.Evidence.Status != sandbox.Exited || run.Evidence.Level != b.profile.Level || run.Evidence.Phases["command"] == 0 {
		t.Errorf("evidence %+v", run.Evidence)
	}
	phases := ""
	for _, e := range events {
		phases += e.Phase + e.Stream + " "
	}
	for _, want := range []string{"running", "stdout", "stderr", "editing"} {
		if !strings.Contains(phases, want) {
			t.Errorf("events %q lack %s", phases, want)
		}
	}
	content := func(name string) string {
		for _, c := range run.Changes.Changes {
			if c.Path == name {
				r, err := run.Content(c)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				text, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
		}
		return ""
	}
	if content("task.json") != plainTask || content("prompt.txt") != content("stdin.txt") || !strings.Contains(content("prompt.txt"), "it is old") {
		t.Errorf("task %q, prompt %q, stdin %q", content("task.json"), content("prompt.txt"), content("stdin.txt"))
	}
	for line := range strings.Lines(content("env.txt")) {
		name, _, _ := strings.Cut(line, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "_":
		default:
			if !strings.HasPrefix(name, "SOP_") || strings.Contains(name, "PLUGIN") {
				t.Errorf("%s is set", name)
			}
		}
	}
	if data, err := os.ReadFile(filepath.Join(b.workspace, "a.txt")); err != nil || string(data) != "old\n" {
		t.Errorf("the workspace holds %q, %v", data, err)
	}
}

// Every way to end has its outcome and its code, and leaves no process.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name, script string
		edit         func(*bench)
		task         string
		outcome      Outcome
		code         int
	}{
		{name: "changed", script: "echo x > a.txt", outcome: Changed},
		{name: "claims a change", script: "true", outcome: NothingToDo, code: 10},
		{name: "nothing to do", script: "exit 10", outcome: NothingToDo, code: 10},
		{name: "needs a person", script: "echo x > a.txt; exit 11", outcome: NeedsPerson, code: 11},
		{name: "budget spent", script: "exit 20", outcome: BudgetSpent, code: 20},
		{name: "bad task", script: "exit 30", outcome: BadTask, code: 30},
		{name: "crash", script: "echo x > a.txt; exit 3", outcome: Crashed, code: 3},
		{name: "signal", script: "kill -SEGV $$", outcome: Crashed, code: 139},
		{name: "a code of the host's", script: "exit 124", outcome: Crashed, code: 1},
		{name: "protected", script: "echo x > a.txt", task: `,"protected":["a.*"]`, outcome: Rejected},
		{name: "out of scope", script: "echo x > a.txt", task: `,"scope":["docs/**"]`, outcome: Rejected},
		{name: "in scope", script: "mkdir -p docs/new && echo x > docs/new/b.md", task: `,"scope":["docs/new/b.md"]`, outcome: Changed},
		{name: "git hook", script: "mkdir -p .git/hooks && echo x > .git/hooks/pre-commit", outcome: Rejected},
		{name: "wall", script: "sleep 300", edit: func(b *bench) { b.profile.Limits.Wall = 2 * time.Second }, outcome: TimedOut, code: 124},
		{name: "wall of the budget", script: "trap '' TERM; sleep 300", task: `,"budget":{"wall_seconds":1}`, outcome: TimedOut, code: 124},
		{name: "output flood", script: "yes", edit: func(b *bench) { b.profile.Limits.OutputBytes = 64 << 10 }, outcome: TooMuchOut, code: 123},
		{name: "claims flood", script: `yes > "$SOP_OUT/events.jsonl"`, outcome: TooMuchOut, code: 123},
		{name: "money", script: `echo '{"cost":{"money":3}}' > "$SOP_OUT/events.jsonl"; sleep 300`, task: `,"budget":{"money":2}`, outcome: BudgetSpent, code: 20},
		{name: "daemon", script: "setsid sleep 98765 & echo x > a.txt", outcome: Changed},
		{name: "kills the plugin", script: "kill -9 $PPID; sleep 300", outcome: Crashed, code: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := script(t, c.script)
			if c.edit != nil {
				c.edit(b)
			}
			run := b.run(strings.TrimSuffix(plainTask, "}") + c.task + "}")
			if run.Outcome != c.outcome || run.Code != c.code {
				t.Errorf("%v, code %d; %q, %v, %+v", run.Outcome, run.Code, run.Explanation, run.Err, run.Evidence)
			}
			if found := processes("98765"); len(found) > 0 {
				t.Errorf("processes are left: %v", found)
			}
		})
	}
}

// processes are those whose arguments hold a text.
func processes(text string) (found []string) {
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range entries {
		data, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(data), text) {
			found = append(found, name+" "+strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}

// A memory bomb ends as what it is.
func TestOutOfMemory(t *testing.T) {
	b := script(t, `exec python3 -c 'x = [bytearray(1 << 20) for _ in range(1 << 14)]'`)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
	b.profile.Limits.MemoryBytes = 256 << 20
	run := b.run(plainTask)
	// What is over one process's limit ends that process; over that of all, the run.
	if run.Outcome != OutOfMemory && run.Outcome != Crashed {
		t.Errorf("%v, code %d, %+v", run.Outcome, run.Code, run.Evidence)
	}
}

// The caller's cancel ends everything at once.
func TestCancel(t *testing.T) {
	b := script(t, "setsid sleep 98764 & echo begun; sleep 98764")
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	run, err := b.runner.Run(ctx, b.request(plainTask), func(e Event) {
		if e.Stream == "stdout" {
			began = time.Now()
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if run.Outcome != Canceled || run.Evidence.Status != sandbox.Canceled {
		t.Errorf("%v, %+v", run.Outcome, run.Evidence)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if found := processes("98764"); len(found) > 0 {
		t.Errorf("processes are left: %v", found)
	}
}

func TestRefused(t *testing.T) {
	b := script(t, "true")
	b.profile.ReadOnly = []string{"/nowhere"}
	run := b.run(plainTask)
	if b.profile.Level == sandbox.LevelStrict && (run.Outcome != Refused || run.Code != sandbox.ExitRefused || run.Evidence.Refusal == nil || run.Err == nil) {
		t.Errorf("%v, code %d, %+v, %v", run.Outcome, run.Code, run.Evidence, run.Err)
	}
	for name, request := range map[string]Request{
		"task":       b.request("{}"),
		"no sandbox": {Plugin: "detector.docs", Task: []byte(plainTask), Workspace: b.workspace, Profile: sandbox.DefaultProfile},
		"unknown":    {Plugin: "sandbox.nobody", Task: []byte(plainTask), Workspace: b.workspace, Profile: sandbox.DefaultProfile},
	} {
		if run, err := b.runner.Run(t.Context(), request, nil); err == nil {
			t.Errorf("%s: %v", name, run.Outcome)
			run.Close()
		} else if sdk.FromError(err).Reason == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A patch is there when the generator begins, and part of what it proposes.
func TestPatchFirst(t *testing.T) {
	b := script(t, "cat a.txt && echo more >> a.txt && exit 0")
	first := script(t, "echo first > a.txt")
	first.workspace = b.workspace
	before := first.run(plainTask)
	req := b.request(plainTask)
	req.Patch = &sandbox.Patch{Set: before.Changes, Content: before.Content}
	run, err := b.runner.Run(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if run.Outcome != Changed || run.Output.Stdout.Text != "first\n" || strings.Join(paths(run.Changes), "") != "modify a.txt" {
		t.Errorf("%v, %q, %v", run.Outcome, run.Output.Stdout.Text, paths(run.Changes))
	}
}

// All that detector-docs finds in the corpus is closed by sandbox-scaffold, each
// in a view of its own, and the detector, run on a view with the patch, says so.
func TestScaffoldsCloseTheCorpus(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes a run for each of 62 gaps")
	}
	docs, err := spec(t.TempDir(), "detector", "docs", "{}")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, "scaffold", map[string]any{}, docs)
	if err := os.Remove(filepath.Join(b.workspace, "a.txt")); err != nil {
		t.Fatal(err)
	}
	b.corpus()
	found := b.scan(detector.Kind.NewClient(b.pool.Conn("detector.docs")), b.workspace)
	if len(found) < 62 {
		t.Fatalf("only %d findings", len(found))
	}
	began := time.Now()
	closed := 0
	for i, f := range found {
		run := b.run(taskOf(t, f))
		if run.Outcome == NothingToDo {
			closed++ // with one before
			continue
		}
		if run.Outcome != Changed {
			t.Errorf("%v: %v, %s, %v", f.GetLocation(), run.Outcome, run.Explanation, run.Err)
			continue
		}
		if i == 0 {
			b.gone(f, run)
		}
		root, err := os.OpenRoot(b.workspace)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sandbox.Apply(root, run.Changes, run.Content), root.Close()); err != nil {
			t.Fatal(err)
		}
		closed++
	}
	t.Logf("%d of %d closed, %v each", closed, len(found), time.Since(began)/time.Duration(len(found)))
	for _, f := range b.scan(detector.Kind.NewClient(b.pool.Conn("detector.docs")), b.workspace) {
		t.Errorf("still there: %v %s", f.GetLocation(), f.GetRule())
	}
}

// gone asks the detector, in a view with the patch, whether a gap is gone.
func (b *bench) gone(f *pluginv1.Finding, run *Run) {
	b.t.Helper()
	d, err := b.pool.Dedicated(b.t.Context(), "detector.docs", plugin.View{
		Runner: b.runner.Sandbox,
		Spec:   sandbox.Spec{Profile: b.profile, Workspace: b.workspace, Patch: &sandbox.Patch{Set: run.Changes, Content: run.Content}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, still := range b.scan(detector.Kind.NewClient(d), d.Places().Workspace) {
		if still.GetRule() == f.GetRule() && still.GetLocation().GetPath() == f.GetLocation().GetPath() && still.GetLocation().GetSymbol() == f.GetLocation().GetSymbol() {
			b.t.Errorf("with its patch it is still there: %v", still)
		}
	}
	out, err := d.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.t.Error(err)
	}
}

// scan lists what is in the workspace, and has it looked at where the detector
// finds it.
func (b *bench) scan(client pluginv1.DetectorClient, root string) []*pluginv1.Finding {
	b.t.Helper()
	start := &pluginv1.ScanStart{ScanId: "test", Workspace: b.t.Name(), Root: root, Revision: fmt.Sprint(time.Now().UnixNano()), MaxFileSize: 4 << 20}
	result, err := plugintest.Exchange(b.t.Context(), client, start, &pluginv1.ScanFiles{Changed: plugintest.Files(b.t, b.workspace)})
	if err != nil {
		b.t.Fatal(err)
	}
	return result.Findings
}

func taskOf(t *testing.T, f *pluginv1.Finding) string {
	t.Helper()
	gap := map[string]any{
		"id": "g1", "rule": f.GetRule(), "type": strings.ToLower(strings.TrimPrefix(f.GetType().String(), "GAP_TYPE_")),
		"path": f.GetLocation().GetPath(), "line": f.GetLocation().GetLine(), "symbol": f.GetLocation().GetSymbol(), "message": f.GetMessage(),
	}
	if p := f.GetProperties(); len(p) > 0 {
		gap["properties"] = p
	}
	text, err := json.Marshal(map[string]any{"contract": Contract, "id": "t1", "gap": gap, "goal": f.GetRemedy()})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runAsHost is a host with a run under way, for a test to kill.
func runAsHost() error {
	programs = os.Getenv(programsVariable)
	dir := os.Getenv(asHost)
	s, err := spec(dir, "sandbox", "exec", `{"command":["/bin/sh","-c","setsid sleep 98763 & echo begun; sleep 98763"]}`)
	if err != nil {
		return err
	}
	pool, err := start(dir, s)
	if err != nil {
		return err
	}
	profile := sandbox.DefaultProfile
	profile.Level = level()
	r := &Runner{Plugins: pool, Sandbox: sandboxRunner()}
	_, err = r.Run(backgroundContext, Request{RunID: "r", Plugin: "sandbox.exec", Workspace: filepath.Join(dir, "workspace"), Profile: profile, Task: []byte(plainTask)},
		func(e Event) {
			if e.Stream == "stdout" {
				fmt.Println(string(e.Data))
			}
		})
	return err
}

// A host that is killed leaves no process, no mount and no directory.
func TestKilledHost(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "workspace"), 0o755), os.Mkdir(tmp, 0o755)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.CommandContext(t.Context(), self)
	host.Env = append(os.Environ(), asHost+"="+dir, programsVariable+"="+programs, "TMPDIR="+tmp)
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	mounts := mountCount(t)
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 5)
	if _, err := out.Read(word); err != nil || string(word) != "begun" {
		t.Fatalf("the run did not begin: %q, %v", word, err)
	}
	if len(processes("98763")) < 2 {
		t.Errorf("the generator does not run: %v", processes("98763"))
	}
	if err := host.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // it was killed
	deadline := time.Now().Add(10 * time.Second)
	for len(processes("98763")) > 0 || len(processes(program("sandbox-exec"))) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("processes are left: %v %v", processes("98763"), processes(program("sandbox-exec")))
		}
		time.Sleep(20 * time.Millisecond) // nobody tells of the end of what is not a child
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	if now := mountCount(t); now != mounts {
		t.Errorf("%d mounts, %d before", now, mounts)
	}
	pool, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "run")); err != nil || len(left) > 0 {
		t.Errorf("left after the next start: %v, %v", left, err)
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
}

func mountCount(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}

const nobody = 65534

// TestOrdinaryUser runs the other tests as a user who has no powers.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user already")
	}
	if testing.Short() {
		t.Skip("-short: as this user only")
	}
	dir, err := os.MkdirTemp("", "sop-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := program("generate.test")
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(binary, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.short", "-test.skip=^TestOrdinaryUser$")
	cmd.Dir = filepath.Join(dir, "host", "internal", "generate") // what is documented lies where it does here
	err = errors.Join(os.CopyFS(filepath.Join(dir, "docs"), os.DirFS("../../../docs")), os.MkdirAll(cmd.Dir, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{programsVariable + "=" + programs, "TMPDIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", nobody, err, out)
	}
	t.Logf("as uid %d:\n%s", nobody, out)
}
