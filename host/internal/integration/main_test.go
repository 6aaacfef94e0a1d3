package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox"
)

const jobVariable = "SOP_TEST_INTEGRATION_JOB"

func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		if err := runJob(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// A job is what a process of its own does, which is killed at a step.
type job struct {
	Do    string // "integrate", "rollback" or "recover"
	Root  string
	ID    string
	Set   *sandbox.ChangeSet
	After string // holds the new content
	Old   string // holds the old content, for a rollback; "": the journal alone does
	Kill  int    // the step at which it is killed; 0: never
}

func runJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	steps := 0
	atStep = func(string) {
		if steps++; steps == j.Kill {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
	}
	i, ctx := New(Options{}), context.Background()
	var err error
	switch j.Do {
	case "integrate":
		_, err = i.Integrate(ctx, Request{Root: j.Root, ID: j.ID, Set: j.Set, Content: in(j.After)})
	case "rollback":
		req := RollbackRequest{Root: j.Root, ID: j.ID}
		if j.Old != "" {
			req.Set, req.Old = j.Set, []Copy{copyIn("old", j.Old)}
		}
		_, err = i.Rollback(ctx, req)
	case "recover":
		_, err = i.Recover(ctx, j.Root)
	}
	return err
}

// run does a job in a process, and says whether it came to its end.
func (j job) run(t *testing.T) (finished bool) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return false
		}
	}
	if err != nil {
		t.Fatalf("%s, to be killed at step %d: %v: %s", j.Do, j.Kill, err, stderr.Bytes())
	}
	return true
}

// in opens what is beneath a directory.
func in(dir string) sandbox.Content {
	return func(c sandbox.Change) (io.ReadCloser, error) {
		name := filepath.Join(dir, filepath.FromSlash(c.Path))
		if target, err := os.Readlink(name); err == nil {
			return io.NopCloser(strings.NewReader(target)), nil
		}
		return os.Open(name)
	}
}

// copyIn is a copy of what was replaced beneath a directory.
func copyIn(name, dir string) Copy {
	return Copy{Name: name, Open: func(context.Context) (sandbox.Content, func() error, error) {
		return in(dir), func() error { return nil }, nil
	}}
}

// memory is a directory on a file system where syncs cost nothing: a process
// that is killed loses nothing there that it would not lose elsewhere.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sop-integration-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := errors.Join(unlock(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// files is a tree as a table: a name that ends in a slash is a directory, a text
// that begins with "->" a link, and the mode may stand before a colon.
type files map[string]string

func (f files) write(t *testing.T, dir string) string {
	t.Helper()
	var modes []func() error
	for _, name := range slices.Sorted(maps.Keys(f)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text, mode := f[name], fs.FileMode(0o644)
		if octal, rest, ok := strings.Cut(text, ":"); ok && len(octal) == 4 {
			n, err := strconv.ParseUint(octal, 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			text, mode = rest, fs.FileMode(n)
		}
		var err error
		target, isLink := strings.CutPrefix(text, "->")
		switch {
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			if mode == 0o644 {
				mode = 0o755
			}
			err = os.MkdirAll(path, 0o755)
			modes = append(modes, func() error { return os.Chmod(path, mode) })
		default:
			if err = os.WriteFile(path, []byte(text), mode); err == nil {
				err = os.Chmod(path, mode)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Reverse(modes)
	for _, do := range modes {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tableOf is everything in a tree, with all that is to be preserved.
func tableOf(t *testing.T, dir string) files {
	t.Helper()
	out := make(files)
	root, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.close()
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		if e.Name() == PrivateDir || e.Name() == ".git" {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		now, err := root.look(name)
		if err != nil {
			return err
		}
		out[name] = fmt.Sprintf("%v %04o %d:%d %v", now, now.mode, now.stat.Uid, now.stat.Gid, attributesOf(path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func attributesOf(path string) []string {
	buffer := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buffer)
	if err != nil {
		return nil
	}
	var out []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		if n, err := unix.Lgetxattr(path, name, value); err == nil {
			out = append(out, name+"="+string(value[:n]))
		}
	}
	slices.Sort(out)
	return out
}

// difference names what differs between two tables.
func difference(was, now files) string {
	var out []string
	for name, text := range was {
		if now[name] != text {
			out = append(out, fmt.Sprintf("%s: %s → %s", name, text, now[name]))
		}
	}
	for name, text := range now {
		if _, ok := was[name]; !ok {
			out = append(out, fmt.Sprintf("%s: nothing → %s", name, text))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// changes is the change set from one tree to another.
func changes(t *testing.T, before, after string) *sandbox.ChangeSet {
	t.Helper()
	set := new(sandbox.ChangeSet)
	was, now := openRoot(t, before), openRoot(t, after)
	names := make(map[string]bool)
	for _, dir := range []string{before, after} {
		for name := range tableOf(t, dir) {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, err := was.lookPast(name)
		y, err2 := now.lookPast(name)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if x.kind != missing && y.kind != x.kind {
			set.Changes = append(set.Changes, sandbox.Change{Path: name, Op: sandbox.OpDelete, OldSHA256: x.hash, OldMode: x.mode, OldDir: x.kind == directory})
			x = entry{}
		}
		if c, ok := change(t, after, name, x, y); ok {
			set.Changes = append(set.Changes, c)
		}
	}
	return set
}

func openRoot(t *testing.T, dir string) tree {
	t.Helper()
	root, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.close() })
	return root
}

func change(t *testing.T, after, name string, x, y entry) (sandbox.Change, bool) {
	t.Helper()
	c := sandbox.Change{Path: name, Mode: y.mode, Size: y.stat.Size, SHA256: y.hash, OldSHA256: x.hash, OldMode: x.mode}
	switch y.kind {
	case missing:
		return c, false
	case directory:
		c.Size = 0
		c.Op, c.OldDir = sandbox.OpMkdir, x.kind == directory
		if c.OldDir {
			c.Op = sandbox.OpChmod
		}
		return c, !c.OldDir || x.mode != y.mode
	case link:
		target, err := os.Readlink(filepath.Join(after, name))
		if err != nil {
			t.Fatal(err)
		}
		return sandbox.Change{Path: name, Op: sandbox.OpSymlink, Target: target, SHA256: y.hash, OldSHA256: x.hash}, x.hash != y.hash
	}
	switch {
	case x.kind == missing:
		c.Op = sandbox.OpAdd
	case x.hash != y.hash:
		c.Op = sandbox.OpModify
	default:
		c.Op = sandbox.OpChmod
		return c, x.mode != y.mode
	}
	return c, true
}
