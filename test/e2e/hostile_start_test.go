package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// quick settings keep a plugin that fails from taking long about it.
const quick = `start_timeout = "2s"
  call_timeout  = "2s"
  stop_grace    = "1s"
  restart {
    backoff_min      = "10ms"
    backoff_max      = "20ms"
    breaker_failures = 2
  }`

const (
	startDeadline = 2 * time.Second
	callDeadline  = 2 * time.Second
	stopDeadline  = time.Second
	// allowance is how much longer than its deadline a call of the life cycle
	// may take.
	allowance = 3 * time.Second
)

// neighbour is the detector that must not notice anything.
func neighbour(t *testing.T, before, after *apiv1.Status) {
	t.Helper()
	was, is := plugin(before, "detector.docs"), plugin(after, "detector.docs")
	if is.GetState() != "ready" || is.GetPid() != was.GetPid() || is.GetRestarts() != 0 || is.GetGeneration() != 1 {
		t.Errorf("the neighbour was disturbed: %v, then %v", was, is)
	}
}

// stopInTime stops the host within the plugins' grace.
func (h *host) stopInTime() {
	h.t.Helper()
	if took := h.stop(); took > stopDeadline+allowance {
		h.t.Errorf("the host took %v to stop", took)
	}
}

// replaceBy renames an executable file with that content over a path.
func (s *site) replaceBy(path, content string) {
	s.t.Helper()
	s.put(path+".new", content)
	if err := os.Chmod(path+".new", 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

// unfit is a program that cannot be taken into service.
type unfit struct {
	name string
	mode string
	// spoil changes what has been locked; nil changes nothing.
	spoil   func(s *site, command string)
	kind    string // as it is configured; detector by default
	reasons []string
	message string // part of it
}

var unfits = []unfit{
	{name: "wrong checksum", mode: "good", spoil: func(s *site, c string) { s.replaceBy(c, "#!/bin/sh\nexec sleep 300\n") }, reasons: []string{"PLUGIN_CHECKSUM_MISMATCH"}, message: "the lock file says sha256:"},
	{name: "missing", mode: "good", spoil: func(s *site, c string) { _ = os.Remove(c) }, reasons: []string{"PLUGIN_NOT_EXECUTABLE"}, message: "does not exist"},
	{name: "directory", mode: "good", spoil: func(s *site, c string) { _ = os.Remove(c); _ = os.Mkdir(c, 0o755) }, reasons: []string{"PLUGIN_NOT_EXECUTABLE"}, message: "is a directory"},
	{name: "empty", mode: "good", spoil: func(s *site, c string) { s.replaceBy(c, "") }, reasons: []string{"PLUGIN_NOT_EXECUTABLE"}, message: "is empty"},
	{name: "mode 644", mode: "good", spoil: func(s *site, c string) { _ = os.Chmod(c, 0o644) }, reasons: []string{"PLUGIN_NOT_EXECUTABLE"}, message: "is not executable"},
	{name: "script without interpreter", mode: "good", spoil: func(s *site, c string) { s.replaceBy(c, "echo hello\n") }, reasons: []string{"PLUGIN_NOT_EXECUTABLE"}, message: "neither an ELF program nor a script"},
	{name: "interpreter is missing", mode: "good", spoil: forged("#!/no/such/interpreter\n"), reasons: []string{"PLUGIN_NOT_EXECUTABLE"}, message: "no such file"},
	{name: "no plugin", mode: "good", spoil: forged("#!/bin/true\n"), reasons: []string{"PLUGIN_EXITED_EARLY", "PLUGIN_CRASH_LOOP"}, message: "exit status 0"},
	{name: "prints something else", mode: "print:Welcome!", reasons: []string{"PLUGIN_HANDSHAKE_FAILED", "PLUGIN_CRASH_LOOP"}, message: "Welcome!"},
	{name: "prints 70 KB", mode: "print:" + strings.Repeat("x", 70<<10), reasons: []string{"PLUGIN_HANDSHAKE_FAILED", "PLUGIN_CRASH_LOOP"}, message: "instead of a handshake"},
	{name: "wrong kind", mode: "good", kind: "backup", reasons: []string{"PLUGIN_WRONG_KIND"}, message: "is a detector plugin, configured as backup"},
	{name: "newer contract", mode: "contract", reasons: []string{"PLUGIN_CONTRACT_VERSION"}, message: "contract 99"},
	{name: "never handshakes", mode: "silent", reasons: []string{"PLUGIN_START_TIMEOUT", "PLUGIN_CRASH_LOOP"}, message: "not ready within 2s"},
	{name: "exits during the handshake", mode: "exit", reasons: []string{"PLUGIN_EXITED_EARLY", "PLUGIN_CRASH_LOOP"}, message: "the database is on fire"},
	{name: "handshakes and never serves", mode: "deaf", reasons: []string{"PLUGIN_HANDSHAKE_FAILED", "PLUGIN_START_TIMEOUT", "PLUGIN_CRASH_LOOP"}, message: ""},
	{name: "exits, a grandchild keeps the pipes", mode: "orphan", reasons: []string{"PLUGIN_EXITED_EARLY", "PLUGIN_CRASH_LOOP"}, message: "gone, and not alone"},
	{name: "refuses its configuration", mode: "good", spoil: func(s *site, _ string) {
		s.put(s.conf, strings.Replace(s.read(s.conf), "limit = 3", "limit = -3", 1))
	}, reasons: []string{"PLUGIN_CONFIG_REFUSED"}, message: "the limit is negative"},
}

// forged replaces the program by a script whose checksum is locked.
func forged(script string) func(*site, string) {
	return func(s *site, command string) {
		s.replaceBy(command, script)
		s.forgeLock("detector", "hostile", command)
		s.put(s.conf, strings.Replace(s.read(s.conf), "limit = 3", "", 1)) // what it takes is not known
	}
}

// A program that cannot be taken into service keeps neither the host nor the
// others from starting; the status says what is wrong and what to do.
func TestUnfitPluginAtStart(t *testing.T) {
	t.Parallel()
	for _, c := range unfits {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			id := c.prepare(s)
			h := s.up()
			before := h.status()
			failed := h.waitFor("the plugin has failed for good", func(st *apiv1.Status) bool { return plugin(st, id).GetState() == "failed" })
			p := plugin(failed, id)
			e := p.GetLastError()
			if !slices.Contains(c.reasons, e.GetReason()) || !strings.Contains(e.GetMessage(), c.message) || e.GetRemedy() == "" || e.GetAt() == nil {
				t.Errorf("the status says %v, want one of %v and %q", e, c.reasons, c.message)
			}
			if p.GetPid() != 0 {
				t.Errorf("a failed plugin with pid %d", p.GetPid())
			}
			h.await("a step that says so", func(l line) bool {
				return l.Component == "plugin "+id && l.Phase == "failed" && l.Detail != "" && l.Remedy != ""
			})
			if r := s.must(3, "status"); !strings.Contains(r.stdout, id) || !strings.Contains(r.stdout, "remedy") {
				t.Errorf("for people: %v", r)
			}
			begin := time.Now()
			if r := s.sop("plugin", "restart", id); r.code == 0 || r.code == 5 || !strings.Contains(r.stderr, "remedy:") {
				t.Errorf("restart of a plugin that cannot start: %v", r)
			}
			if took := time.Since(begin); took > startDeadline+stopDeadline+allowance {
				t.Errorf("restart took %v", took)
			}
			h.scan() // goes on without it
			neighbour(t, before, h.status())
			h.stopInTime()
		})
	}
}

// The same programs do not get into a host that runs: all is refused and what
// ran runs on.
func TestUnfitPluginByReload(t *testing.T) {
	t.Parallel()
	for _, c := range unfits {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c.prepare(s)
			bad := slow(s.read(s.conf))
			s.put(s.conf, slow(s.config()))
			h := s.up()
			before := h.status()
			s.put(s.conf, bad)
			r := s.must(1, "reload", "-o", "json")
			if r.took > startDeadline+stopDeadline+allowance {
				t.Errorf("reload took %v", r.took)
			}
			after := h.status()
			d := h.refused(before, after, c.message)
			where := `" "hostile" {`
			if c.name == "refuses its configuration" {
				where = "limit = -3"
			}
			if d.GetLine() != lineOf(t, bad, where) {
				t.Errorf("shown at line %d, want %d: %v", d.GetLine(), lineOf(t, bad, where), d)
			}
			h.stopInTime()
		})
	}
}

// prepare configures and locks the program while it is well, and then spoils
// it. It returns the plugin's id.
func (c *unfit) prepare(s *site) string {
	s.t.Helper()
	s.write("README.md", readme)
	command := s.install("hostile", hostile(s.t))
	block := func(mode string) string { return hostilePlugin(command, mode, quick, "config {\n    limit = 3\n  }") }
	s.configure(block("good"))
	s.lock()
	id := "detector.hostile"
	config := s.config(block(c.mode))
	if c.kind != "" {
		id = c.kind + ".hostile"
		config = strings.Replace(strings.Replace(config, `"detector" "hostile"`, fmt.Sprintf("%q %q", c.kind, "hostile"), 1), "limit = 3", "", 1)
		s.forgeLock(c.kind, "hostile", command)
	}
	s.put(s.conf, config)
	if c.spoil != nil {
		c.spoil(s, command)
	}
	return id
}

// Locking refuses what is no plugin, says why, and leaves nothing behind.
func TestLockRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ mode, want string }{
		{"print:Welcome!", "Welcome!"},
		{"exit", "the database is on fire"},
		{"contract", "contract 99"},
		{"silent", "not ready within 2s"},
		{"orphan", "gone, and not alone"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.configure(hostilePlugin(s.install("hostile", hostile(t)), c.mode, quick))
			r := s.must(1, "plugin", "lock")
			if !strings.Contains(r.stderr, c.want) || !strings.Contains(r.stderr, "remedy:") || r.took > startDeadline+stopDeadline+allowance {
				t.Errorf("%v", r)
			}
			// What can be locked is.
			content, err := os.ReadFile(filepath.Join(s.dir, "sop.lock.hcl"))
			if err != nil || !strings.Contains(string(content), `"docs"`) || strings.Contains(string(content), "hostile") {
				t.Errorf("lock file: %s, %v", content, err)
			}
		})
	}
}
