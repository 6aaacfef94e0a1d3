package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newcomerPatience is how long a newcomer waits for the example: it is built, tested
// and vetted more than once, on a machine that has other things to do.
const newcomerPatience = 5 * time.Minute

// newClone clones the repository as it was committed, for somebody who has the
// caches of this machine and no network.
func newClone(t *testing.T) *site {
	t.Helper()
	for _, program := range []string{"git", "make", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("a newcomer needs %s: %v", program, err)
		}
	}
	s := newSite(t)
	s.work = filepath.Join(s.dir, "clone")
	s.conf, s.data = filepath.Join(s.work, "config.hcl"), filepath.Join(s.work, ".sop")
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "-q", "--no-hardlinks", repository, s.work).CombinedOutput(); err != nil {
		t.Skipf("the tests do not run in a repository that can be cloned: %v: %s", err, out)
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		s.env = append(s.env, name+"="+strings.TrimSpace(string(value)))
	}
	s.env = append(s.env, "GOPROXY=off", "GOTOOLCHAIN=local")
	return s
}

// made runs make in the clone to its end.
func (s *site) made(args ...string) {
	s.t.Helper()
	cmd := s.command(s.t.Context())
	cmd.Path, cmd.Args = lookPath(s.t, "make"), append([]string{"make"}, args...)
	cmd.Dir = s.work
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("make %v: %v\n%s", args, err, clip(string(out)))
	}
}

func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A terminal is a `make run` in one, and what it shows.
type terminal struct {
	*site
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // closed and replaced when there is more
}

// Write takes what is shown.
func (x *terminal) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.news)
	x.news = make(chan struct{})
	return x.text.Write(p)
}

// makeRun runs `make run` with further arguments of make before.
func (s *site) makeRun(args ...string) *terminal {
	s.t.Helper()
	x := &terminal{site: s, done: make(chan struct{}), news: make(chan struct{})}
	x.cmd = s.command(context.Background())
	x.cmd.Path, x.cmd.Args = lookPath(s.t, "make"), append(append([]string{"make"}, args...), "run")
	x.cmd.Dir, x.cmd.Stdout, x.cmd.Stderr = s.work, x, x
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal's foreground
	if err := x.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(x.done)
		_ = x.cmd.Wait() // what became of the host stands in its timeline
	}()
	s.t.Cleanup(x.interrupt)
	return x
}

// await waits until something has been shown, and returns the line.
func (x *terminal) await(what string, parts ...string) string {
	x.t.Helper()
	timer := time.NewTimer(newcomerPatience)
	defer timer.Stop()
	for {
		x.mu.Lock()
		text, news := x.text.String(), x.news
		x.mu.Unlock()
		for line := range strings.Lines(text) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return line
			}
		}
		select {
		case <-news:
		case <-x.done:
			x.t.Fatalf("make run has ended, and did not show %s:\n%s", what, clip(text))
		case <-timer.C:
			x.t.Fatalf("make run does not show %s within %v:\n%s", what, newcomerPatience, text)
		}
	}
}

// interrupt presses Ctrl-C, and waits for the end.
func (x *terminal) interrupt() {
	select {
	case <-x.done:
		return
	default:
	}
	if err := syscall.Kill(-x.cmd.Process.Pid, syscall.SIGINT); err != nil {
		x.t.Errorf("interrupt make run: %v", err)
	}
	select {
	case <-x.done:
	case <-time.After(patience):
		x.t.Errorf("make run did not end within %v of Ctrl-C", patience)
		_ = syscall.Kill(-x.cmd.Process.Pid, syscall.SIGKILL) // what is left is told by the end of the test
		<-x.done
	}
}

// exampleTasks are the tasks of the example, by their ids.
func (x *terminal) exampleTasks() map[string]taskLine {
	x.t.Helper()
	r := x.must(0, "task", "list", "--state", "all", "--limit", "0", "-o", "json", "--socket", x.socket())
	var list struct {
		Tasks []taskLine `json:"tasks"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		x.t.Fatalf("%v\n%v", err, r)
	}
	all := make(map[string]taskLine)
	for _, task := range list.Tasks {
		all[task.ID] = task
	}
	return all
}

// Whoever clones the repository and types `make run` sees the loop go round on the
// example without help: a gap in its documentation is fixed, verified, approved by
// rule, backed up, integrated and confirmed; another waits, and the terminal says
// how it is approved. Ctrl-C ends it; the next `make run` goes on from there.
func TestMakeRun(t *testing.T) {
	t.Parallel()
	s := newClone(t)
	var options []string
	if os.Getenv("SOP_TEST_LONG") == "" {
		t.Log("what was built is used in place of a build, which takes minutes; SOP_TEST_LONG=1 builds in the clone")
		if out, err := exec.CommandContext(t.Context(), "cp", "-r", filepath.Join(repository, "bin"), s.work).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := os.RemoveAll(filepath.Join(s.work, "bin", "example")); err != nil {
			t.Fatal(err)
		}
		s.made("-s", "bin/example")
		options = []string{"-o", "core"}
	}
	x := s.makeRun(options...)
	x.await("that the host is resident", "resident, pid")
	x.await("the rule that approves", "approved by the rule example-docs")
	x.await("the confirmation", "the rescan confirms that the gap is gone")
	remedy := x.await("how the other is approved", "sop patch approve ")
	x.await("that it waits", "waits for approval")

	var done, waiting taskLine
	for _, task := range x.exampleTasks() {
		switch task.State {
		case "done":
			done = task
		case "awaiting_approval":
			waiting = task
		}
	}
	if done.Patch == "" || waiting.Patch == "" || !strings.Contains(remedy, waiting.Patch) {
		t.Errorf("done is %+v, waiting is %+v, and the terminal says %q", done, waiting, remedy)
	}
	shown := x.must(0, "patch", "show", done.Patch, "--no-diff", "--socket", x.socket()).stdout
	for _, want := range []string{"integrated", "example-docs", "backup"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the patch does not show %q:\n%s", want, shown)
		}
	}
	if saved := x.must(0, "backup", "list", "-o", "json", "--socket", x.socket()).stdout; !strings.Contains(saved, done.Patch) {
		t.Errorf("there is no backup for patch %s: %s", done.Patch, saved)
	}
	example := &site{t: t, work: filepath.Join(s.work, "bin", "example")}
	if diff := example.git("diff"); !strings.Contains(diff, "+// ") {
		t.Errorf("the example differs by:\n%s", diff)
	}
	x.interrupt()
	x.await("that it stops", "stopp")
	if log := s.read(filepath.Join(s.data, "logs", "host.log")); strings.Contains(log, "panic") {
		t.Error("the host has panicked")
	}

	x = s.makeRun(options...)
	x.await("that the host is resident again", "resident, pid")
	again := x.exampleTasks()
	for _, was := range []taskLine{done, waiting} {
		if now := again[was.ID]; now.State != was.State || now.Patch != was.Patch {
			t.Errorf("task %+v is %+v after the second start", was, now)
		}
	}
	x.interrupt()
}
