package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func loadIntegration(t *testing.T, block string) (*Config, Diagnostics) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.hcl")
	text := "workspace \"w\" {\n  path = \".\"\n" + block + "}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, Options{})
}

func TestIntegration(t *testing.T) {
	cfg, diags := loadIntegration(t, "")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	want := Integration{Mode: "worktree", Branch: "sop/{task}", Dirty: "stop", Author: "SOP <sop@localhost>", Keep: 720 * time.Hour}
	if got := cfg.Workspaces[0].Integration; got != want {
		t.Errorf("%+v", got)
	}
	cfg, diags = loadIntegration(t, `integration {
  mode = "branch"
  branch = "fix/{task}/{patch}"
  directory = "out"
  dirty = "allow"
  author = "Me <me@example.org>"
  keep = "48h"
}
`)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	got := cfg.Workspaces[0].Integration
	want = Integration{Mode: "branch", Branch: "fix/{task}/{patch}", Directory: filepath.Join(filepath.Dir(cfg.Path), "out"), Dirty: "allow", Author: "Me <me@example.org>", Keep: 48 * time.Hour}
	if got != want {
		t.Errorf("%+v", got)
	}
	for block, want := range map[string]string{
		`mode = "tree"`:       `"tree" is not a mode`,
		`branch = "a b"`:      `"a b" cannot name a branch`,
		`branch = "a/../b"`:   `cannot name a branch`,
		`branch = "x.lock"`:   `cannot name a branch`,
		`dirty = "maybe"`:     `"maybe" is not a dirty`,
		`author = "me"`:       "An author is written `Name <mail>`",
		`author = "a <b>\nc"`: "An author is written `Name <mail>`",
		`keep = "1s"`:         "keep",
		`push = true`:         "push",
	} {
		_, diags := loadIntegration(t, "integration {\n"+block+"\n}\n")
		if !diags.HasErrors() || !strings.Contains(diags.Error(), want) {
			t.Errorf("%s: %v, want %q", block, diags, want)
		}
	}
}
