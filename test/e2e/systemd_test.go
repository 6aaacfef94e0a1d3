package e2e_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is the socket of a service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn}
}

// await returns the next message that begins with this, and passes over those of
// the watchdog meanwhile.
func (m *manager) await(first string) string {
	m.t.Helper()
	buffer := make([]byte, 4096)
	for {
		if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			m.t.Fatal(err)
		}
		n, err := m.conn.Read(buffer)
		if err != nil {
			m.t.Fatalf("no %s: %v", first, err)
		}
		message := string(buffer[:n])
		if strings.HasPrefix(message, first) {
			return message
		}
		if message != "WATCHDOG=1" {
			m.t.Fatalf("the host said %q, and not %s", message, first)
		}
	}
}

// A service manager hears when the host is ready, that it lives, when it reloads
// and with which outcome, and that it stops.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	socket := filepath.Join(s.dir, "notify.sock")
	m := newManager(t, socket)
	s.env = []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=400000"}
	h := s.start()
	if got := m.await("READY=1"); !strings.Contains(got, "\nSTATUS=in service") {
		t.Errorf("%q", got)
	}
	for range 3 {
		m.await("WATCHDOG=1")
	}
	s.put(s.conf, "plugin {\n")
	if got := m.await("RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		t.Errorf("%q", got)
	}
	if got := m.await("READY=1"); !strings.Contains(got, "\nSTATUS=degraded: the configuration") {
		t.Errorf("after a refused configuration: %q", got)
	}
	s.configure()
	m.await("RELOADING=1")
	m.await("READY=1")
	h.signal(syscall.SIGHUP)
	m.await("RELOADING=1")
	m.await("READY=1")
	h.stop()
	m.await("STOPPING=1")
}

// The unit is one that systemd takes.
func TestUnitFile(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("the unit was not verified: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(repository, "dist", "systemd", "sop.service"))
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "sop.service")
	placed := strings.NewReplacer("/usr/lib/sop/sop", sopProgram(), "User=sop", "User=root", "Group=sop", "Group=root").Replace(string(text))
	if err := os.WriteFile(unit, []byte(placed), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Unknown key 'DelegateSubgroup'") { // before systemd 254
			t.Logf("not verified by this systemd: %s", line)
			continue
		}
		t.Error(line)
	}
}

// Under the unit, as a real systemd runs it, the host does all that it is for: it
// changes a workspace in a sandbox, backs up, and is started again whatever ended it.
func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	s := loopSite(t, "auto")
	s.put(s.conf, s.loopConfig("auto")+`
backup "state" {
  plugin   = "files"
  state    = true
  interval = "24h"
}
`)
	s.lock()
	s.asNobody()
	text := strings.NewReplacer(
		"/usr/lib/sop/sop", sopProgram(), "/etc/sop/config.hcl", s.conf, "User=sop", "User=nobody", "Group=sop", "Group=nogroup",
		"WatchdogSec=30s", "WatchdogSec=3s", "RestartSec=2s", "RestartSec=100ms",
	).Replace(s.read(filepath.Join(repository, "dist", "systemd", "sop.service")))
	m := boot(t, "sop.service", text+"\n[Service]\nEnvironment=TMPDIR="+s.tmp()+"\n")
	m.must("systemctl", "start", "sop")
	h := &host{site: s}
	if done := h.awaitTask("done"); done.Patch == "" {
		t.Errorf("%+v", done)
	}
	if !strings.Contains(s.read(filepath.Join(s.work, "sum.go")), "// Add") {
		t.Error("the workspace was not changed")
	}
	if !eventually(patience, func() bool {
		return strings.Contains(s.sop("backup", "list", "--config", s.conf).stdout, "schedule state")
	}) {
		t.Error(s.sop("backup", "list", "--config", s.conf))
	}
	if r := s.sop("status", "--config", s.conf); r.code != 0 || strings.Contains(r.stdout, "!") {
		t.Errorf("%v", r)
	}

	m.must("systemctl", "reload", "sop")
	good := s.read(s.conf)
	s.put(s.conf, "plugin {\n")
	if _, err := m.run("systemctl", "reload", "sop"); err == nil {
		t.Error("systemctl reload does not fail where the configuration is refused")
	}
	if got := m.show("StatusText"); !strings.HasPrefix(got, "degraded: the configuration") {
		t.Errorf("status %q", got)
	}
	s.put(s.conf, good)
	m.must("systemctl", "reload", "sop")

	// SIGQUIT ends a Go program as a panic does. The watchdog ends one that is stopped.
	for i, signal := range []string{"KILL", "QUIT", "STOP"} {
		before := m.show("MainPID")
		m.must("kill", "-"+signal, before)
		if !eventually(patience, func() bool {
			return m.show("NRestarts") == strconv.Itoa(i+1) && m.show("ActiveState") == "active"
		}) {
			t.Fatalf("after SIG%s it is not started again:\n%s", signal, m.must("systemctl", "status", "sop"))
		}
	}
	if r := s.sop("audit", "verify", "--config", s.conf); r.code != 0 {
		t.Errorf("%v", r)
	}
	m.must("systemctl", "stop", "sop")
	if got := m.show("Result"); got != "success" {
		t.Errorf("stopping: %s", got)
	}
	if out := m.must("find", "/sys/fs/cgroup/system.slice", "-mindepth", "1", "-type", "d"); out != "" {
		t.Errorf("cgroups are left: %s", out)
	}
}
