package patchfile

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox"
)

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

func write(t *testing.T, dir, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestGitApplies gives what is written to git, which makes of one tree the other.
func TestGitApplies(t *testing.T) {
	before, after := t.TempDir(), t.TempDir()
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return string(b) + "\x00"
	}
	lines := strings.Repeat("a line\n", 50)
	old := map[string]string{
		"text": lines, "dir/a name": "x\ny\n", "gone": "was\n", "binary": noise(1000), "gone.bin": noise(77), "crlf": "a\r\nb\r\n",
		"no newline": "end", "mode.sh": "#!/bin/sh\n", "ünicode": "ü\n", `qu"ote`: "q\n", "empties": "x\n",
	}
	now := map[string]string{
		"text": "first\n" + lines + "last", "dir/a name": "x\nz\n", "binary": noise(3), "crlf": "a\r\nB\r\n", "no newline": "end\n", "ünicode": "ö\n",
		`qu"ote`: "Q\n", "new": "n\n", "new dir/new file": "n", "new.bin": noise(200), "nothing": "", "empties": "",
	}
	set := new(sandbox.ChangeSet)
	for name, text := range old {
		write(t, before, name, text, 0o644)
		next, stays := now[name]
		switch {
		case name == "mode.sh":
			write(t, after, name, text, 0o755)
			set.Changes = append(set.Changes, sandbox.Change{Path: name, Op: sandbox.OpChmod, Mode: 0o755, OldMode: 0o644, OldSHA256: "x", SHA256: "x"})
		case !stays:
			set.Changes = append(set.Changes, sandbox.Change{Path: name, Op: sandbox.OpDelete, OldMode: 0o644, OldSHA256: "x"})
		default:
			write(t, after, name, next, 0o644)
			set.Changes = append(set.Changes, sandbox.Change{Path: name, Op: sandbox.OpModify, Mode: 0o644, OldMode: 0o644, OldSHA256: "x", SHA256: "y"})
		}
	}
	for name, text := range now {
		if _, was := old[name]; !was {
			write(t, after, name, text, 0o644)
			set.Changes = append(set.Changes, sandbox.Change{Path: name, Op: sandbox.OpAdd, Mode: 0o644, SHA256: "y"})
		}
	}
	if err := os.Symlink("text", filepath.Join(after, "link")); err != nil {
		t.Fatal(err)
	}
	set.Changes = append(set.Changes, sandbox.Change{Path: "link", Op: sandbox.OpSymlink, Target: "text"}, sandbox.Change{Path: "new dir", Op: sandbox.OpMkdir})

	var text bytes.Buffer
	if err := Write(&text, set, in(before), in(after), Options{}); err != nil {
		t.Fatal(err)
	}
	apply := exec.Command("git", "apply", "--whitespace=nowarn", "-")
	apply.Dir, apply.Stdin = before, bytes.NewReader(text.Bytes())
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(before))
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s\n%s", err, out, text.Bytes())
	}
	if out, err := exec.Command("diff", "-r", "--no-dereference", before, after).CombinedOutput(); err != nil {
		t.Errorf("what git has made of it differs: %v\n%s", err, out)
	}
	if info, err := os.Stat(filepath.Join(before, "mode.sh")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
}

func TestForPeople(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "x\n", 0o644)
	write(t, dir, "b", "x\x00", 0o644)
	set := &sandbox.ChangeSet{Changes: []sandbox.Change{
		{Path: "d", Op: sandbox.OpMkdir}, {Path: "a", Op: sandbox.OpAdd, Mode: 0o644}, {Path: "b", Op: sandbox.OpAdd, Mode: 0o644}, {Path: "a", Op: sandbox.OpAdd, Mode: 0o644},
	}}
	var text bytes.Buffer
	if err := Write(&text, set, in(dir), in(dir), Options{People: true, Limit: 250}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"new directory d\n", "+x\n", "not text, or over 1048576 bytes: 0 bytes → 2 bytes\n", "… and 1 more changes\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
}
