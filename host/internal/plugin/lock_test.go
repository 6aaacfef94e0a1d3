package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

func TestLockRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.lock.hcl")
	empty, err := ReadLock(path)
	if err != nil || len(empty.IDs()) != 0 {
		t.Fatalf("a lock file that does not exist: %v, %v", empty, err)
	}
	entry := LockEntry{
		Kind: "detector", Name: "docs", Hash: "sha256:" + strings.Repeat("ab", 32), Version: "1.0.0",
		Schema: &pluginv1.ConfigSchema{Attributes: []*pluginv1.ConfigAttribute{
			{Name: "limit", Type: `"number"`, Description: "A \"quoted\" ${template} %{if}\nline", DefaultJson: "15"},
		}},
	}
	if err := empty.With(entry).With(LockEntry{Kind: "backup", Name: "x", Hash: entry.Hash, Schema: &pluginv1.ConfigSchema{}}).Write(path); err != nil {
		t.Fatal(err)
	}
	l, err := ReadLock(path)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := l.Entry("detector.docs")
	if !ok || got.Hash != entry.Hash || got.Version != entry.Version || !proto.Equal(got.Schema, entry.Schema) {
		t.Errorf("got %+v", got)
	}
	if ids := l.Without("backup.x").IDs(); len(ids) != 1 || len(l.IDs()) != 2 {
		t.Errorf("ids: %v and %v", ids, l.IDs())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".sop.lock.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLockRefuses(t *testing.T) {
	good := strings.Repeat("0", 64)
	tests := map[string]string{
		"syntax":      "plugin {",
		"no checksum": `plugin "detector" "a" { hash = "md5:1"` + "\nversion = \"1\"\nschema = \"{}\"\n}",
		"twice":       strings.Repeat("plugin \"detector\" \"a\" {\n hash = \"sha256:"+good+"\"\n version = \"1\"\n schema = \"{}\"\n}\n", 2),
		"schema":      "plugin \"detector\" \"a\" {\n hash = \"sha256:" + good + "\"\n version = \"1\"\n schema = \"nonsense\"\n}\n",
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sop.lock.hcl")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadLock(path); err == nil || !strings.Contains(err.Error(), "sop.lock.hcl") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzReadHandshake(f *testing.F) {
	f.Add("1|1|unix|./plugin123|grpc|" + strings.Repeat("A", 60))
	f.Add("||||||")
	r := &runner{spec: &Spec{Command: "x"}}
	f.Fuzz(func(t *testing.T, line string) {
		if e := r.checkHandshake(line, nil); e == nil && strings.Count(line, "|") < 5 {
			t.Errorf("accepted %q", line)
		} else if e != nil && e.Remedy == "" {
			t.Errorf("no remedy for %q", line)
		}
	})
}
