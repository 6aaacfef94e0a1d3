package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// sandboxRunner uses the launcher that make build has built.
func sandboxRunner(t *testing.T) *sandbox.Runner {
	t.Helper()
	path, err := filepath.Abs("../../../bin/" + sandbox.LauncherName)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	r := &sandbox.Runner{Launcher: path}
	t.Cleanup(func() { r.Close() })
	return r
}

// medianOf returns how long something takes.
func medianOf(t *testing.T, runs int, do func() error) time.Duration {
	t.Helper()
	took := make([]time.Duration, runs)
	for i := range took {
		began := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[runs/2]
}

func runTrue(r *sandbox.Runner, workspace string) error {
	out, err := r.Run(context.Background(), sandbox.Spec{Profile: sandbox.DefaultProfile, Workspace: workspace, Argv: []string{"/bin/true"}})
	if err != nil {
		return err
	}
	if out.Status != sandbox.Exited || out.Level != sandbox.LevelStrict {
		return fmt.Errorf("%v %v", out.Status, out.Refusal)
	}
	return out.Close()
}

func TestBenchSandboxStart(t *testing.T) {
	wanted(t)
	r, dir := sandboxRunner(t), t.TempDir()
	start := func() error { return runTrue(r, dir) }
	if err := start(); err != nil {
		t.Fatal(err)
	}
	// Each twice, by turns, and the better of them: what else goes on here meets both.
	small, large := medianOf(t, 31, start), withHeap(t, start)
	small, large = min(small, medianOf(t, 31, start)), min(large, withHeap(t, start))
	say(t, "sandbox start: 1 GB heap / empty heap", float64(large)/float64(small), "≤ 1.1", "%v / %v", large, small)
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		t.Logf("bench  sandbox start: bwrap is not installed; /bin/true in strict takes %v", small)
		return
	}
	args := bwrapArgs(dir)
	var ours, floor []time.Duration // by turns, so that both meet the same machine
	for range 61 {
		ours = append(ours, medianOf(t, 1, start))
		floor = append(floor, medianOf(t, 1, func() error { return exec.CommandContext(t.Context(), bwrap, args...).Run() }))
	}
	say(t, "sandbox start: strict / bwrap", float64(median(ours))/float64(median(floor)), "≤ 2", "%v / %v", median(ours), median(floor))
}

// withHeap is how long starts take while there is 1 GB of live heap.
func withHeap(t *testing.T, start func() error) time.Duration {
	t.Helper()
	heap := make([]byte, 1<<30)
	for i := 0; i < len(heap); i += 4096 {
		heap[i] = 1
	}
	took := medianOf(t, 31, start)
	runtime.KeepAlive(heap)
	debug.FreeOSMemory()
	return took
}

// bwrapArgs give bubblewrap the flags that come nearest to strict: all
// namespaces, a root of the same parts, no capabilities, a session of its own.
// It has neither an overlay nor landlock nor a filter nor a mask over /proc to set up.
func bwrapArgs(workspace string) []string {
	args := []string{
		"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
		"--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/home/sop", "--bind", workspace, "/workspace", "--chdir", "/workspace",
	}
	for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib64"} {
		if target, err := os.Readlink(dir); err == nil {
			args = append(args, "--symlink", target, dir)
		} else {
			args = append(args, "--ro-bind-try", dir, dir)
		}
	}
	for _, name := range []string{"ld.so.cache", "alternatives", "localtime", "ssl/certs", "services", "mime.types"} {
		args = append(args, "--ro-bind-try", "/etc/"+name, "/etc/"+name)
	}
	return append(args, "/bin/true")
}

// 20,000 files, 51 edits: a run and what it changed, against a copy.
func TestBenchSandboxTree(t *testing.T) {
	wanted(t)
	r, dir := sandboxRunner(t), t.TempDir()
	tree := filepath.Join(dir, "tree")
	for i := range 20_000 {
		sub := filepath.Join(tree, fmt.Sprint("d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("f", i)), fmt.Appendf(nil, "%0*d\n", 2000, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const script = "i=0; while [ $i -lt 50 ]; do echo more >> d$i/f${i}00; i=$((i+1)); done; rm d60/f6000"
	edit := func() error {
		out, err := r.Run(t.Context(), sandbox.Spec{Profile: sandbox.DefaultProfile, Workspace: tree, Argv: []string{"sh", "-c", script}})
		if err != nil {
			return err
		}
		set, err := out.Changes(sandbox.DefaultChangeLimits)
		if err != nil {
			return err
		}
		if len(set.Changes) != 51 || len(set.Rejected) > 0 {
			return fmt.Errorf("%d changes, rejected %v", len(set.Changes), set.Rejected)
		}
		return out.Close()
	}
	if err := edit(); err != nil {
		t.Fatal(err)
	}
	var ours, floor []time.Duration // by turns, so that both meet the same machine
	for i := range 5 {
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		floor = append(floor, medianOf(t, 1, func() error { return exec.CommandContext(t.Context(), "cp", "-a", tree, copied).Run() }))
		syscall.Sync() // or what cp has left to be written is done in our time
		ours = append(ours, medianOf(t, 5, edit))
	}
	say(t, "sandbox: cp -a of 20k files / run with 51 edits", float64(median(floor))/float64(median(ours)), "≥ 50", "%v / %v", median(floor), median(ours))
}

// A warm build cache serves a sandboxed go test as it serves a bare one.
func TestBenchSandboxGoTest(t *testing.T) {
	wanted(t)
	r, dir := sandboxRunner(t), t.TempDir()
	writeGoModule(t, dir)
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Without the path of the tree in it, what was compiled serves wherever the tree lies.
	settings := []string{"GOFLAGS=-trimpath", "CGO_ENABLED=0", "GOPROXY=off"}
	bare := func() error {
		cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "./...")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), settings...)
		return cmd.Run()
	}
	profile := sandbox.DefaultProfile
	profile.Caches = []sandbox.Cache{{Name: "go-build", Path: strings.TrimSpace(string(cache)), Env: []string{"GOCACHE"}}}
	inside := func() error {
		out, err := r.Run(t.Context(), sandbox.Spec{Profile: profile, Workspace: dir, Settings: settings, Argv: []string{"go", "test", "-count=1", "./..."}})
		if err != nil {
			return err
		}
		if out.Status != sandbox.Exited || out.Exit != 0 {
			return fmt.Errorf("%v, exit %d, %v: %s%s", out.Status, out.Exit, out.Refusal, out.Stdout.Text, out.Stderr.Text)
		}
		return out.Close()
	}
	var ours, floor []time.Duration
	for i := range 12 {
		b, s := medianOf(t, 1, bare), medianOf(t, 1, inside)
		if i > 0 { // the first fills the cache
			floor, ours = append(floor, b), append(ours, s)
		}
	}
	say(t, "sandbox: go test with a warm cache / bare", float64(median(ours))/float64(median(floor)), "≤ 1.1", "%v / %v", median(ours), median(floor))
}

// writeGoModule writes four packages whose tests take a moment, as tests do.
func writeGoModule(t *testing.T, dir string) {
	t.Helper()
	files := map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n"}
	for i := range 4 {
		name := fmt.Sprint("p", i)
		files[name+"/p.go"] = "package " + name + "\n\nimport \"encoding/json\"\n\n// Text encodes.\nfunc Text(v any) string {\n\ttext, _ := json.Marshal(v)\n\treturn string(text)\n}\n"
		files[name+"/p_test.go"] = "package " + name + "\n\nimport \"testing\"\n\nfunc TestText(t *testing.T) {\n\tfor i := range 200_000 {\n\t\tif Text(i) == \"\" {\n\t\t\tt.Fatal(i)\n\t\t}\n\t}\n}\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// The same gaps get the same bytes from the same scaffolds, run after run, in
// processes of their own.
func TestBenchScaffoldBytes(t *testing.T) {
	wanted(t)
	sop, err := filepath.Abs("../../../bin/sop") // from make build
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeGoModule(t, dir)
	python := "def scale(value, by=2):\n    if by == 0:\n        raise ValueError(by)\n    return value * by\n"
	if err := os.WriteFile(filepath.Join(dir, "scale.py"), []byte(python), 0o644); err != nil {
		t.Fatal(err)
	}
	const runs = 100
	patches := make(map[string]int)
	for i := range runs {
		name := []string{"python-docstring", "readme"}[i%2]
		out, err := exec.CommandContext(t.Context(), sop, "scaffold", "test", name, dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !strings.Contains(string(out), "+++ ") {
			t.Fatalf("%s changes nothing:\n%s", name, out)
		}
		patches[name+string(out)]++
	}
	say(t, "scaffold: patches of 2 scaffolds in 100 runs / 2", float64(len(patches))/2, "= 1", "%d different", len(patches))
}
