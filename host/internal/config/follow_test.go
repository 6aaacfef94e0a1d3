package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFollow(t *testing.T) {
	dir, beside := t.TempDir(), filepath.Join(t.TempDir(), "rules")
	w := startWatcher(t, write(t, dir, "config.hcl", "# 1"))
	if !w.Follow(beside, ".cedar") || w.Follow(beside, ".cedar") {
		t.Error("the first call is the one that changes something")
	}
	must(t, os.Mkdir(beside, 0o755))
	awaitChange(t, w, "the directory appears")
	write(t, beside, "a.cedar", "1")
	awaitChange(t, w, "a file is added")
	write(t, beside, "a.cedar", "2")
	awaitChange(t, w, "a file is written")
	replaceFile(t, beside, "a.cedar", "3")
	awaitChange(t, w, "a file is renamed over")
	elsewhere := write(t, t.TempDir(), "target", "1")
	must(t, os.Symlink(elsewhere, filepath.Join(beside, "link.cedar")))
	awaitChange(t, w, "a link is added")
	write(t, filepath.Dir(elsewhere), "target", "2")
	awaitChange(t, w, "the target of a link is written")
	write(t, dir, "config.hcl", "# 2")
	awaitChange(t, w, "the configuration is still watched")

	other := t.TempDir()
	write(t, other, "a.cedar", "1")
	if !w.Follow(other, ".cedar") {
		t.Error("another directory is a change")
	}
	write(t, other, "a.cedar", "2")
	awaitChange(t, w, "a file of the other directory is written")
	must(t, os.RemoveAll(other))
	awaitChange(t, w, "the directory is gone")
	if !w.Follow("", "") {
		t.Error("none is a change")
	}
}

func TestPolicyBlock(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) (*Config, Diagnostics) { return Load(write(t, dir, "config.hcl", text), Options{}) }
	c, diags := load("policy {\n  dir = \"policies\"\n}\n")
	if c == nil || c.Policy.Dir != filepath.Join(dir, "policies") || c.Policy.Source.Line != 2 {
		t.Errorf("%+v %v", c, diags)
	}
	for text, says := range map[string]string{
		"policy {}":                                            `needs the attribute "dir"`,
		"policy {\n dirr = \"x\"\n}":                           `Did you mean "dir"?`,
		"policy {\n dir = \"\"\n}":                             "must not be empty",
		"policy \"x\" {\n dir = \".\"\n}":                      "no labels",
		"policy {\n dir = \"a\"\n}\npolicy {\n dir = \"b\"\n}": "only one policy block",
	} {
		if c, diags := load(text); c != nil || !containsText(diags, says) {
			t.Errorf("%s: %v", text, diags)
		}
	}
}

func containsText(diags Diagnostics, text string) bool {
	for _, d := range diags {
		if strings.Contains(d.String(), text) {
			return true
		}
	}
	return false
}
