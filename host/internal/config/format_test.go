package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	tests := map[string]struct{ src, want string }{
		"empty":     {"", ""},
		"comment":   {"# x", "# x\n"},
		"align":     {"host{\n a=1\n  bcd   =  2 # c\n}", "host {\n  a   = 1\n  bcd = 2 # c\n}\n"},
		"heredoc":   {"a = <<EOT\n   x  \nEOT\n", "a = <<EOT\n   x  \nEOT\n"},
		"templates": {"a = \"${ b }  c\"\n", "a = \"${b}  c\"\n"},
		"blank":     {"a = 1\n\n\nb = 2\n", "a = 1\n\n\nb = 2\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, diags := Format([]byte(test.src), "c.hcl")
			if diags.HasErrors() || string(got) != test.want {
				t.Errorf("got %q %v, want %q", got, diags, test.want)
			}
		})
	}
}

func TestFormatRefuses(t *testing.T) {
	tests := map[string]string{
		"syntax":   "host {\n",
		"encoding": "# \xff\n",
		"huge":     strings.Repeat("#\n", maxFileSize),
		"deep":     "a = " + strings.Repeat("[", 1<<17),
	}
	for name, src := range tests {
		if got, diags := Format([]byte(src), "c.hcl"); got != nil || !diags.HasErrors() || diags[0].File != "c.hcl" {
			t.Errorf("%s: got %d bytes, %v", name, len(got), diags)
		}
	}
}

// sources returns every file of testdata.
func sources(tb testing.TB) [][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/*/*.hcl")
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]byte
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, src)
	}
	return out
}

func checkFormat(t *testing.T, src []byte) {
	t.Helper()
	once, diags := Format(src, "c.hcl")
	if diags.HasErrors() != (once == nil) {
		t.Fatalf("got %q and %v", once, diags)
	}
	if once == nil {
		return
	}
	if !sameTokens(src, once) {
		t.Errorf("content lost: %q became %q", src, once)
	}
	twice, diags := Format(once, "c.hcl")
	if diags.HasErrors() || !bytes.Equal(once, twice) {
		t.Errorf("not stable: %q became %q and then %q (%v)", src, once, twice, diags)
	}
}

func TestFormatIsStable(t *testing.T) {
	for _, src := range sources(t) {
		checkFormat(t, src)
	}
}

// TestFormatKeepsMeaning loads a file before and after.
func TestFormatKeepsMeaning(t *testing.T) {
	src, err := os.ReadFile("testdata/valid/full.hcl")
	if err != nil {
		t.Fatal(err)
	}
	ragged := bytes.ReplaceAll(bytes.ReplaceAll(src, []byte("  "), []byte(" ")), []byte(" = "), []byte("="))
	formatted, diags := Format(ragged, "full.hcl")
	if diags.HasErrors() || !bytes.Equal(formatted, src) {
		t.Errorf("got %s %v", formatted, diags)
	}
}

func FuzzFormat(f *testing.F) {
	for _, src := range sources(f) {
		f.Add(src)
	}
	f.Add([]byte("a=<<-X\n ${b}\n  X\nb={c=1,d:2}\r\n"))
	f.Add([]byte("\xef\xbb\xbfa=\"%{if a~}x%{endif}\" /* c */"))
	f.Fuzz(func(t *testing.T, src []byte) { checkFormat(t, src) })
}

func FuzzLoad(f *testing.F) {
	for _, src := range sources(f) {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file := filepath.Join(t.TempDir(), "c.hcl")
		if err := os.WriteFile(file, src, 0o600); err != nil {
			t.Fatal(err)
		}
		config, diags := Load(file, testOptions)
		if (config == nil) != diags.HasErrors() {
			t.Fatalf("got %v and %v", config, diags)
		}
		var out bytes.Buffer
		if err := diags.WriteText(&out, true, 80); err != nil {
			t.Fatal(err)
		}
		if config == nil {
			return
		}
		for _, change := range Diff(config, config, nil) {
			if change.Action != ActionUnchanged {
				t.Errorf("differs from itself: %v", change)
			}
		}
		for i := range config.Plugins {
			_, diags := config.Plugins[i].DecodeConfig(testSchema)
			if err := diags.WriteText(&out, false, 0); err != nil {
				t.Fatal(err)
			}
		}
	})
}
