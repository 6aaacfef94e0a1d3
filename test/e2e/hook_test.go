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

// hooked counts what hooks have made: snapshots, and scans.
func (h *host) hooked() (saves, scans int) {
	h.t.Helper()
	log := h.must(0, "audit", "search", "--actor", "sop:hook.keep", "-o", "json").stdout
	return strings.Count(log, `"backup.save"`), strings.Count(h.must(0, "audit", "search", "--actor", "sop:hook.look", "-o", "json").stdout, `"access.workspace.scan"`)
}

// Hooks run plugins: a generator works on the gap, a backup is made of the workspace,
// and it is scanned; none of them sets itself off, or the others, without end.
func TestHooksRunPlugins(t *testing.T) {
	s := loopSite(t, "auto")
	s.write("sum.go", strings.Replace(undocumented, "func Add", "// Add adds.\nfunc Add", 1))
	s.git("commit", "-qam", "documented")
	conf := strings.Replace(s.loopConfig("auto"), "  sandbox  = \"scaffold\"\n", "", 1) // no rule has it worked on
	s.put(s.conf, conf+`
hook "close" {
  on  = ["gap.open", "gap.reopen"]
  run = "sandbox.scaffold"
}

hook "keep" {
  on  = ["backup.", "patch.integrated"]
  run = "backup.files"
}

hook "look" {
  on  = ["workspace.scan", "gap.", "task."]
  run = "detector.docs"
}
`)
	h := s.up()
	h.scan()
	s.write("sum.go", undocumented)
	s.git("commit", "-qam", "undocumented")
	h.scan()
	task := h.awaitTask("done")
	if now := s.source(); !strings.Contains(now, "// Add ") {
		t.Errorf("the file is now:\n%s", now)
	}
	log := h.must(0, "audit", "search", "--actor", "sop:hook.close", "-o", "json").stdout
	if !strings.Contains(log, `"access.run.start"`) || !strings.Contains(log, "task/"+task.ID) {
		t.Errorf("what the hook did is not on record: %s", log)
	}
	if !eventually(patience, func() bool { saves, scans := h.hooked(); return saves > 0 && scans > 0 }) {
		saves, scans := h.hooked()
		t.Fatalf("%d snapshots and %d scans were made by hooks", saves, scans)
	}
	if list := h.must(0, "backup", "list", "-o", "json").stdout; !strings.Contains(list, "sop:hook.keep") {
		t.Errorf("no backup of the hook: %s", list)
	}
	for range 3 { // each of which is told to the hooks
		h.scan()
	}
	// The backup before the integration and the integration itself are what "keep" may
	// act on; a hook that told itself would have gone on and on.
	if saves, scans := h.hooked(); saves > 2 || scans > 40 {
		t.Errorf("hooks have made %d snapshots and %d scans", saves, scans)
	}
	h.stop()
}

// A task waits for the protocols that its rule needs, unless they are started by the
// first call; what it waits for is told.
func TestRuleNeedsProtocols(t *testing.T) {
	for activation, waits := range map[string]bool{"on_demand": false, "manual": true} {
		t.Run(activation, func(t *testing.T) {
			s := loopSite(t, "auto")
			program := filepath.Join(s.dir, "listener")
			s.put(program, fmt.Sprintf(listener, filepath.Join(s.dir, "told")))
			if err := os.Chmod(program, 0o755); err != nil {
				t.Fatal(err)
			}
			s.put(s.conf, strings.Replace(s.loopConfig("auto"), "  sandbox  =", "  needs = [\"engine\"]\n  sandbox  =", 1)+fmt.Sprintf(`
plugin "protocol" "engine" {
  command = "${path.plugins}/protocol-exec"
  config {
    command = [%q]
  }
}

protocol "engine" {
  activation = %q
}
`, program, activation))
			s.lock()
			h := s.up()
			if waits {
				blocked := h.awaitTask("blocked")
				if shown := h.must(0, "task", "show", blocked.ID).stdout; !strings.Contains(shown, "protocol engine: it is inactive: sop protocol activate engine") {
					t.Errorf("what it waits for is not told: %s", shown)
				}
				h.must(0, "protocol", "activate", "engine")
			}
			h.awaitTask("done")
			if r := h.sop("task", "create", "x", "-w", "main", "--needs", "engien", "--socket", h.socket()); r.code == 0 || !strings.Contains(r.stderr, "engine") {
				t.Errorf("an unknown protocol is taken: %v", r)
			}
			h.stop()
		})
	}
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
  run  = "engine.learn"
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

// A protocol that owns a subsystem is told of the maintenance that it needs, and of
// no other's.
func TestMaintenanceIsToldToItsOwner(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	notes, program := filepath.Join(s.dir, "told"), filepath.Join(s.dir, "listener")
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

maintenance {
  owner "component.*" {
    protocol  = "engine"
    operation = "maintain"
  }
}
`, program))
	s.lock()
	h := s.up()
	h.awaitProtocols(map[string]string{"engine": "active"})
	h.must(0, "maintenance", "file", "disk", "it makes noises")
	h.must(0, "maintenance", "file", "component.web", "it answers with nothing")
	var told []byte
	if !eventually(patience, func() bool {
		var err error
		if told, err = os.ReadFile(notes); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Contains(string(told), "maintenance.filed")
	}) {
		t.Fatalf("the owner was told %q", told)
	}
	for _, want := range []string{`"operation":"maintain"`, `"subsystem":"component.web"`, "it answers with nothing"} {
		if !strings.Contains(string(told), want) {
			t.Errorf("%s is missing in what the owner was told: %s", want, told)
		}
	}
	if strings.Contains(string(told), "noises") {
		t.Errorf("the owner was told of what it does not own: %s", told)
	}
	if records := h.must(0, "audit", "search", "--actor", "sop:hook.owner.engine", "-o", "json").stdout; !strings.Contains(records, `"protocol.call"`) {
		t.Errorf("the call is not on record: %s", records)
	}
	h.stop()
}
