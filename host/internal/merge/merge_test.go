package merge

import (
	"errors"
	"testing"
)

func TestThree(t *testing.T) {
	const base = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
	for name, c := range map[string]struct {
		base, ours, theirs, want string
		conflict                 bool
	}{
		"only theirs":       {base: base, ours: base, theirs: base + "8\n", want: base + "8\n"},
		"only ours":         {base: base, ours: "0\n" + base, theirs: base, want: "0\n" + base},
		"the same":          {base: base, ours: "x\n", theirs: "x\n", want: "x\n"},
		"apart":             {base: base, ours: "0\n" + base, theirs: base + "8\n", want: "0\n" + base + "8\n"},
		"the same lines":    {base: base, ours: "x\n" + base[4:], theirs: "y\n" + base[4:], conflict: true},
		"both from nothing": {base: "", ours: "x\n", theirs: "y\n", conflict: true},
		"not text":          {base: "a\x00", ours: "b\x00", theirs: "c\x00", conflict: true},
		"line endings stay": {base: "a\r\nb\r\nc\r\nd\r\ne\r\n", ours: "A\r\nb\r\nc\r\nd\r\ne\r\n", theirs: "a\r\nb\r\nc\r\nd\r\nE\r\n", want: "A\r\nb\r\nc\r\nd\r\nE\r\n"},
		"no newline at end": {base: base + "end", ours: "0\n" + base + "end", theirs: base + "END", want: "0\n" + base + "END"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Three(t.Context(), []byte(c.base), []byte(c.ours), []byte(c.theirs))
			if errors.Is(err, ErrConflict) != c.conflict || !c.conflict && err != nil {
				t.Fatalf("%v", err)
			}
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNoGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Three(t.Context(), []byte("a\n"), []byte("b\na\n"), []byte("a\nc\n")); err == nil {
		t.Error("merged without git")
	}
}
