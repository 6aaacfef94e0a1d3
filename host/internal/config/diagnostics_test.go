package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDiagnosticsJSON(t *testing.T) {
	file := write(t, t.TempDir(), "c.hcl", "host {\n  log_level = \"x\"\n}\n")
	_, diags := Load(file, testOptions)
	encoded, err := json.Marshal(diags)
	if err != nil {
		t.Fatal(err)
	}
	var decoded Diagnostics
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	if len(decoded) != 1 || decoded[0] != diags[0] {
		t.Errorf("got %+v, want %+v", decoded, diags)
	}
	want := Range{File: file, Line: 2, Column: 15, EndLine: 2, EndColumn: 18}
	if decoded[0].Range != want || decoded[0].Snippet != `  log_level = "x"` {
		t.Errorf("got %+v", decoded[0])
	}
	if encoded, _ := json.Marshal(Diagnostics(nil)); string(encoded) != "[]" {
		t.Errorf("no diagnostics are %s", encoded)
	}
}

func TestDiagnosticsError(t *testing.T) {
	warning := Diagnostic{Severity: SeverityWarning, Summary: "W"}
	failed := Diagnostic{Severity: SeverityError, Summary: "E", Detail: "D.", Range: Range{File: "f", Line: 1, Column: 2}}
	tests := []struct {
		diags Diagnostics
		want  string
	}{
		{nil, "no errors"},
		{Diagnostics{warning}, "no errors"},
		{Diagnostics{warning, failed}, "f:1:2: E; D."},
		{Diagnostics{failed, failed}, "f:1:2: E; D. (and 1 more error)"},
		{Diagnostics{failed, failed, failed}, "f:1:2: E; D. (and 2 more errors)"},
	}
	for _, test := range tests {
		if got := test.diags.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if (test.diags.Err() != nil) != (test.want != "no errors") {
			t.Errorf("Err of %v", test.diags)
		}
	}
}

func TestWriteText(t *testing.T) {
	d := Diagnostic{
		Severity: SeverityWarning, Summary: "Sum\x1b[2Jmary", Detail: "one two three four five six seven",
		Range: Range{File: "c.hcl", Line: 12, Column: 61, EndLine: 14, EndColumn: 2}, Snippet: strings.Repeat("abcdef ", 10) + "\x1b\u202e",
	}
	var plain strings.Builder
	if err := (Diagnostics{d}).WriteText(&plain, false, 30); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(plain.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 31 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if strings.ContainsAny(plain.String(), "\x1b\u202e") {
		t.Errorf("control characters in %q", plain.String())
	}
	var coloured strings.Builder
	if err := (Diagnostics{d, d}).WriteText(&coloured, true, 0); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(coloured.String(), styleYellow+"Warning:"+styleReset) {
		t.Errorf("got %q", coloured.String())
	}
	if err := (Diagnostics{d}).WriteText(failingWriter{}, false, 0); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

var errFull = errors.New("full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

// TestWriteTextIsTotal tries every column and width, also those outside the
// line.
func TestWriteTextIsTotal(t *testing.T) {
	for _, line := range []string{"", "\tä̈b", strings.Repeat("x", 50)} {
		for column := -1; column < 60; column += 3 {
			for end := -1; end < 60; end += 7 {
				for width := -1; width < 60; width += 4 {
					d := Diagnostic{Summary: "s", Range: Range{File: "f", Line: 1, Column: column, EndLine: 1, EndColumn: end}, Snippet: line}
					var out strings.Builder
					if err := (Diagnostics{d}).WriteText(&out, false, width); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

func TestClosest(t *testing.T) {
	tests := []struct {
		given, want string
	}{
		{"comand", "command"},
		{"comamd", "command"},
		{"evn", ""},
		{"en", "env"},
		{"args", ""},
		{"zzzz", ""},
		{strings.Repeat("x", 1000), ""},
		{"", ""},
	}
	for _, test := range tests {
		if got := closest(test.given, []string{"command", "args", "env"}); got != test.want {
			t.Errorf("closest(%q) = %q, want %q", test.given, got, test.want)
		}
	}
}
