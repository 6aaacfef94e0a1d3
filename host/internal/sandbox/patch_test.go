package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// patchOf is what a script does to a workspace, as a patch for another run.
func patchOf(t *testing.T, dir, script string) *Patch {
	t.Helper()
	out := shell(t, dir, script)
	return &Patch{Set: changes(t, out), Content: out.Content}
}

const patchScript = `
echo changed > a.txt; rm b.txt; mkdir -p new/deep; echo n > new/deep/f; chmod 0755 new/deep/f; ln -s ../a.txt new/link
chmod 0600 dir/c.txt; echo 'x y' > 'with space'`

// What a patch holds is there before anything runs, at every level, and is part
// of what the run has changed.
func TestPatch(t *testing.T) {
	for _, level := range Levels {
		t.Run(string(level), func(t *testing.T) {
			needs(t, LevelStrict)
			needs(t, level)
			dir := workspace(t)
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "dir2"), 0o755), os.MkdirAll(filepath.Join(dir, "dir"), 0o755), os.WriteFile(filepath.Join(dir, "dir", "c.txt"), []byte("c"), 0o644)); err != nil {
				t.Fatal(err)
			}
			patch := patchOf(t, dir, patchScript)
			profile := DefaultProfile
			profile.Level = level
			out, err := runner().Run(t.Context(), Spec{Profile: profile, Workspace: dir, Patch: patch, Argv: []string{
				"sh", "-ec", `cat a.txt new/link new/deep/f; test ! -e b.txt; test -x new/deep/f; echo more >> a.txt; rmdir dir2; stat -c %a dir/c.txt`,
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			if out.Status != Exited || out.Exit != 0 || out.Stdout.Text != "changed\nchanged\nn\n600\n" {
				t.Fatalf("%v, exit %d, %v: %q %s", out.Status, out.Exit, out.Refusal, out.Stdout.Text, out.Stderr.Text)
			}
			want := append(brief(patch.Set), "delete dir2")
			got := brief(changes(t, out))
			if len(got) != len(want) {
				t.Errorf("changes %v, want %v", got, want)
			}
			if data, err := os.ReadFile(filepath.Join(dir, "a.txt")); err != nil || strings.HasPrefix(string(data), "changed") {
				t.Errorf("the workspace: %q, %v", data, err)
			}
		})
	}
}

// A patch that the workspace does not match, or whose content is not what its
// set says, is an error; one that does not fit is a refusal.
func TestPatchRefused(t *testing.T) {
	needs(t, LevelStrict)
	dir := workspace(t)
	patch := patchOf(t, dir, "echo changed > a.txt; echo n > n")
	try := func(patch *Patch, limits Limits) (*Outcome, error) {
		profile := DefaultProfile
		profile.Limits = limits
		return runner().Run(t.Context(), Spec{Profile: profile, Workspace: dir, Patch: patch, Argv: []string{"true"}})
	}
	if out, err := try(&Patch{Set: &ChangeSet{Rejected: []Rejection{{"x", "y"}}}}, Limits{}); err == nil {
		out.Close()
		t.Error("a rejected set was made")
	}
	other := func(Change) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("other")), nil }
	if out, err := try(&Patch{Set: patch.Set, Content: other}, Limits{}); !errors.Is(err, ErrConflict) {
		out.Close()
		t.Errorf("other content: %v", err)
	}
	large := &ChangeSet{Changes: []Change{{Path: "zeros", Op: OpAdd, Mode: 0o644, Size: 8 << 20, SHA256: "2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74"}}}
	out, err := try(&Patch{Set: large, Content: func(Change) (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, 8<<20)), nil }}, Limits{DiskBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	if out.Status != Refused || out.Refusal == nil || out.Refusal.Stage != "patch" || out.Refusal.Errno != syscall.ENOSPC {
		t.Errorf("%v, %v", out.Status, out.Refusal)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("meanwhile"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := try(patch, Limits{}); !errors.Is(err, ErrConflict) {
		out.Close()
		t.Errorf("another workspace: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A service at a level without namespaces may listen, and reach nobody.
func TestServicePolicy(t *testing.T) {
	needs(t, LevelLandlock)
	program, err := os.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	profile := DefaultProfile
	profile.Level = LevelLandlock
	ready := make(chan Places, 1)
	out, err := runner().Run(context.Background(), Spec{
		Profile: profile, Workspace: t.TempDir(), Argv: []string{"sh", "-c", pythonSockets},
		Service: &Service{
			Program: program, Env: func(own Places) []string { return []string{"SOCKETS=" + own.Sockets} },
			Ready: func(own Places, dir *os.File) { ready <- own; dir.Close() },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if out.Status != Exited || out.Exit == 127 {
		t.Skipf("%v, exit %d: there is no python3: %s", out.Status, out.Exit, out.Stderr.Text)
	}
	if out.Exit != 0 || out.Stdout.Text != "bound\ndenied\ndenied\ndenied\n" {
		t.Errorf("exit %d: %q %s", out.Exit, out.Stdout.Text, out.Stderr.Text)
	}
	if own := <-ready; own.Sockets == "" || own.Workspace == "" {
		t.Errorf("%+v", own)
	}
}

const pythonSockets = `exec python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind(os.environ["SOCKETS"] + "/s"); s.listen()
print("bound")
def denied(f):
    try: f()
    except OSError: print("denied")
    else: print("allowed")
denied(lambda: socket.socket(socket.AF_UNIX).connect(os.environ["SOCKETS"] + "/s"))
denied(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
denied(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
'`
