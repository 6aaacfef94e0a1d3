package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite what testdata expects")

// TestScan scans each archive in testdata; its comment says what it shows, and
// its last file, "want", lists the findings.
func TestScan(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want := &archive.Files[len(archive.Files)-1]
			root := t.TempDir()
			for _, f := range archive.Files[:len(archive.Files)-1] {
				write(t, root, map[string]string{f.Name: string(f.Data) + " "})
			}
			h := newHost(t, root, nil)
			reply := h.scan(t)
			for _, f := range reply.findings {
				if f.GetRemedy() == "" || f.GetMessage() == "" || f.GetSeverity() == 0 || f.GetRuleVersion() == "" {
					t.Errorf("incomplete finding %v", f)
				}
				if f.GetLocation().GetLine() > 0 && f.GetSnippet() == "" {
					t.Errorf("finding without snippet: %v", f)
				}
			}
			got := []byte(strings.Join(h.open(), "\n") + "\n")
			if *update {
				want.Data = got
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(want.Data)) {
				t.Errorf("got\n%s\nwant\n%s", got, want.Data)
			}
		})
	}
}

func TestSyntaxErrorIsADiagnostic(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"README.md": "text\n", "a.go": "package p\n\nfunc F( {\n", "b.go": "// Package p is.\npackage p\n\nfunc G() {}\n", "c.go": "garbage\n",
	})
	h := newHost(t, root, nil)
	reply := h.scan(t)
	if got, want := h.open(), []string{"b.go:4 docs.go.exported G"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	lines := make(map[string]int32)
	for _, d := range reply.diagnostics {
		if d.GetReason() == "PARSE_ERROR" {
			lines[d.GetPath()] = d.GetLine()
		}
	}
	if lines["a.go"] != 3 || lines["c.go"] != 1 {
		t.Errorf("diagnostics %v", reply.diagnostics)
	}
	if reply.covered["a.go"] || !reply.covered["b.go"] {
		t.Errorf("covered %v", reply.covered)
	}
}

func TestBytesThatAreNoText(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"README.md": "\ufeff# Title\r\n[x](#title) [\xff](\xff.md#\xfe) [y](#%ff) [z](a%00b) [dir](/%2e%2e/%2e%2e/x)\r\n",
		"a.go":      "package a\n\n// \xff\nfunc F() {}\n", "b.go": "package b\n\nfunc \xff() {}\n",
	})
	h := newHost(t, root, nil)
	h.scan(t)
	if got := len(h.gaps["README.md"]); got != 3 {
		t.Errorf("got %q, want three gaps", h.gaps["README.md"])
	}
}

func TestSettings(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"README.md":            "[x](gone.md)\n",
		"notes/old.md":         "[x](gone.md)\n",
		"gen/deep/a.go":        "// Package a is.\npackage a\n\nfunc F() {}\n",
		"p/p.go":               "// Package p is.\npackage p\n\ntype t int\n\nfunc (t) M() {}\n",
		"services/billing/x.c": "int x;\n",
	})
	h := newHost(t, root, &settings{
		ExportedExclude: []string{"gen/**"}, CheckPrivateReceivers: true,
		ComponentDirs: []string{"services/*"}, MarkdownExclude: []string{"notes/*.md"},
	})
	h.scan(t)
	want := []string{"README.md:1 docs.markdown.link gone.md", "p/p.go:6 docs.go.exported t.M", "services/billing:0 docs.readme low"}
	if got := h.open(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	bad := &settings{ExportedExclude: []string{"a[", "ok/*"}, ComponentDirs: []string{"/abs", ""}}
	err := bad.validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("got %v, want three errors", err)
	}
}

func TestDisabledRules(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a.go": "package p\n\nfunc F() {}\n", "b.md": "[x](gone) [y](#gone)\n"})
	h := newHost(t, root, nil)
	h.scan(t, ruleExported)
	if got, want := h.open(), []string{"a.go:3 docs.go.exported F"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	h.rescan(t, nil) // with all rules, though nothing has changed
	if got := h.open(); len(got) != 5 {
		t.Errorf("got %q, want five gaps", got)
	}
}
