package main

import (
	"testing"
	"unicode/utf8"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"plain": "plain", "new\nline": "new\nline", "e\u0301": "e\u0301", "not \xff utf-8": "not \uFFFDff utf-8",
		"\uFFFDff": "\uFFFDef\uFFFDbf\uFFFDbdff", "\xed\xa0\x80": "\uFFFDed\uFFFDa0\uFFFD80",
	} {
		if got := escape(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
		if got := unescape(want); got != name {
			t.Errorf("%q comes back as %q, was %q", want, got, name)
		}
	}
	for _, foreign := range []string{"\uFFFD", "a\uFFFDx", "\uFFFDzz.txt", "\uFFFDf"} { // as the kopia client may name a file
		if got := unescape(foreign); got != foreign {
			t.Errorf("%q becomes %q", foreign, got)
		}
	}
}

// FuzzNames: every name comes back, as text of its own.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"", "a", "\xff", "\uFFFD", "\uFFFDff", "\xc3(", "\xf0\x9f\x98"} {
		f.Add(name, "b")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := escape(a), escape(b)
		if !utf8.ValidString(ea) {
			t.Fatalf("%q becomes %q, which is no text", a, ea)
		}
		if back := unescape(ea); back != a {
			t.Fatalf("%q becomes %q and comes back as %q", a, ea, back)
		}
		if a != b && ea == eb {
			t.Fatalf("%q and %q both become %q", a, b, ea)
		}
	})
}
