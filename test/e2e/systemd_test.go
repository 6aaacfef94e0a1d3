package e2e_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
