package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func loadAudit(t *testing.T, text string) (*Config, Diagnostics) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sop.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, Options{})
}

func TestAudit(t *testing.T) {
	c, diags := loadAudit(t, `audit {
  checkpoint "http" {
    url        = "https://c/x?key=secret"
    header_env = { Authorization = "VAR" }
  }
  checkpoint "file" { path = "notes" }
  mirror "syslog" { address = "unix:///dev/log" }
  retention { keep = "90d" }
  verify_interval = "36h"
}`)
	if c == nil {
		t.Fatal(diags)
	}
	a := c.Audit
	if len(a.Checkpoints) != 2 || a.Checkpoints[0].Path != filepath.Join(c.Dir, "notes") || a.Checkpoints[1].HeaderEnv["Authorization"] != "VAR" ||
		a.Mirrors[0].Format != "cef" || a.Keep != 90*24*time.Hour || a.Segment != defaultSegment || a.Verify != 36*time.Hour {
		t.Errorf("%+v", a)
	}
	changes := Diff(&Config{}, c, nil)
	if len(changes) != 2 || changes[1].Object != ObjectAudit || len(changes[1].Reasons) != 6 || strings.Contains(changes[1].String(), "secret") {
		t.Errorf("%v", changes)
	}
	if again := Diff(c, c, nil); again[1].Action != ActionUnchanged {
		t.Errorf("%v", again)
	}
}

func TestAuditMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`audit { checkpoint "ftp" {} }`:                                    "no checkpoint of kind",
		`audit { mirror "http" {} }`:                                       "no mirror of kind",
		`audit { checkpoint "http" { url = "http://example.com/" } }`:      "https://",
		`audit { checkpoint "http" { url = "https://a:b@example.com/" } }`: "password",
		`audit { checkpoint "syslog" { address = "udp://host" } }`:         "needs a host and a port",
		`audit { checkpoint "file" {} }`:                                   `attribute "path"`,
		`audit { mirror "file" {
 path = "a"
 max_size = "1XB"
} }`: "unit of size",
		`audit { retention { keep = "x" } }`:  "not a duration",
		`audit { retention { keep = "0d" } }`: "number of days",
		`audit { mirror "file" { path = "a" }
mirror "file" { path = "a" } }`: "named already",
		"audit {}\naudit {}": "Duplicate block",
		`audit { checkpoint "http" {
 url = "https://a/"
 header_env = { A = "1X" }
} }`: "environment variable",
	} {
		if inner, ok := strings.CutPrefix(text, "audit { "); ok {
			text = "audit {\n" + strings.TrimSuffix(inner, " }") + "\n}"
		}
		c, diags := loadAudit(t, text)
		if c != nil || !strings.Contains(diags.Error(), want) {
			t.Errorf("%s: %v, want %q", text, diags, want)
		}
	}
}
