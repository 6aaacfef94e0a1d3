package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listener is a program on standard streams that keeps what it is told, a line
// each, and answers everything.
const listener = `#!/bin/sh
while read -r line; do
  printf '%%s\n' "$line" >> %q
  id=${line#*'"id":"'}
  printf '{"id":"%%s","result":null}\n' "${id%%%%'"'*}"
done
`

// heard is what the listener was told by a hook.
func heard(t *testing.T, path string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var request struct {
			Operation string
			Payload   struct{ Hook, Kind, Subject, Workspace string }
		}
		if err := json.Unmarshal([]byte(line), &request); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if request.Operation != "learn" || request.Payload.Hook != "improve" || request.Payload.Workspace != "main" {
			t.Errorf("told %s", line)
		}
		out = append(out, request.Payload.Kind)
	}
	return out
}

// A hook tells a protocol of what happens, also of what happened just before the
// host was killed, and its calls are on record.
func TestHook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	notes := filepath.Join(s.dir, "told")
	program := filepath.Join(s.dir, "listener")
	s.put(program, fmt.Sprintf(listener, notes))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	s.configure(fmt.Sprintf(`
plugin "protocol" "engine" {
  command = "${path.plugins}/protocol-exec"
  config {
    command = [%q]
  }
}

hook "improve" {
  on   = ["gap."]
  call = "engine.learn"
}
`, program))
	s.lock()
	h := s.up()
	h.awaitProtocols(map[string]string{"engine": "active"})
	if told := heard(t, notes); len(told) != 0 {
		t.Errorf("told %v before anything happened", told)
	}
	s.write("doc.md", "# Doc\n\n[gone](gone.md)\n")
	reported(t, h.scan(), 1, 0, 0)
	if !eventually(patience, func() bool { return len(heard(t, notes)) == 1 }) {
		t.Fatalf("told %v of a gap", heard(t, notes))
	}
	s.write("doc.md", "# Doc\n")
	reported(t, h.scan(), 0, 0, 1)
	h.kill()
	h = s.up()
	if !eventually(patience, func() bool { return len(heard(t, notes)) >= 2 }) {
		t.Fatalf("told %v after the host was killed", heard(t, notes))
	}
	if records := h.must(0, "audit", "search", "--actor", "sop:hook.improve", "-o", "json").stdout; !strings.Contains(records, `"protocol.call"`) || !strings.Contains(records, "protocol/engine") {
		t.Errorf("the calls are not on record: %s", records)
	}
	h.stop()
}
