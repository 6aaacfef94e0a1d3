package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMarkers(t *testing.T) {
	m := newMarkers(defaultMarkers)
	for _, c := range []struct {
		line string
		want mark
		ok   bool
	}{
		{"// TODO: write it", mark{"TODO", "", "write it", true}, true},
		{"//TODO write it", mark{"TODO", "", "write it", true}, true},
		{"# FIXME(ann, bob): now */", mark{"FIXME", "ann, bob", "now", true}, true},
		{"/* XXX */", mark{"XXX", "", "", true}, true},
		{" * HACK - around", mark{"HACK", "", "around", true}, true},
		{"// we should TODO this", mark{"TODO", "", "this", false}, true},
		{"// first FIXME then TODO: x", mark{"FIXME", "", "then TODO: x", false}, true},
		{"// @TODO x", mark{"TODO", "", "x", true}, true},
		{"// [TODO] x", mark{"TODO", "", "] x", true}, true},
		{"// ends in TODO.", mark{"TODO", "", ".", false}, true},
		{"// TODO(", mark{"TODO", "", "(", true}, true},
		{"// TODOs", mark{}, false},
		{"// todo: x", mark{}, false},
		{"// MYTODO x", mark{}, false},
		{"// TODO_LIST x", mark{}, false},
		{"// ÄTODO x", mark{}, false},
		{"// the word \"TODO\" and `TODO`", mark{}, false},
		{"// TODO/FIXME markers", mark{}, false},
		{"// XXX-XX-XXXX", mark{}, false},
		{"// markers such as TODO, stubs and more", mark{}, false},
		{"// TODO, FIXME and HACK", mark{}, false},
		{"// TODO, but later", mark{"TODO", "", ", but later", true}, true},
		{"// a.TODO.b $TODO %TODO", mark{}, false},
	} {
		got, ok := m.find([]byte(c.line))
		if got != c.want || ok != c.ok {
			t.Errorf("%q: %+v %v", c.line, got, ok)
		}
	}
}

// TestLongLines bounds what a file of one line can cost.
func TestLongLines(t *testing.T) {
	const size = 32 << 10
	for name := range syntaxes {
		for _, part := range []string{"/", "'", "\"", "`${", "<<A ", "1<<n\n", "$a", "${", "{", "r#", "/*", "#", "\\", "a: |\n"} {
			src := []byte("TODO" + strings.Repeat(part, size/len(part)))
			start := time.Now()
			syntaxes[name].comments(src, func(int, []byte) {})
			if d := time.Since(start); d > 5*time.Second { // a quadratic one takes minutes, with the race detector
				t.Errorf("%s: %q took %v", name, part, d)
			}
		}
	}
}

// FuzzComments looks for a file on which the lexer panics, hangs or finds what
// is no comment.
func FuzzComments(f *testing.F) {
	all := make([]string, 0, len(syntaxes))
	for name := range syntaxes {
		all = append(all, name)
	}
	slices.Sort(all)
	for i := range all {
		f.Add(uint8(i), []byte("a = \"x\" // TODO\n/* b */ # 'c'\n<!-- d --> -- e\nf: |\n  g\n<<H\nh\nH\n`${ {} }`"))
	}
	f.Fuzz(func(t *testing.T, which uint8, src []byte) {
		s := syntaxes[all[int(which)%len(all)]]
		lines, last := bytes.Count(src, []byte("\n"))+1, 0
		s.comments(src, func(line int, text []byte) {
			if line < last || line > lines || len(text) == 0 {
				t.Fatalf("line %d after %d of %d: %q", line, last, lines, text)
			}
			last = line
			starts := slices.ContainsFunc(s.line, func(o string) bool { return bytes.HasPrefix(text, []byte(o)) }) ||
				slices.ContainsFunc(s.blocks, func(p pair) bool { return bytes.HasPrefix(text, []byte(p.open)) })
			if !starts {
				t.Fatalf("%q is no comment", text)
			}
		})
	})
}
