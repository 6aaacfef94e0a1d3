package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// How commands end, for scripts.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"version"}},
		{0, []string{"help"}},
		{0, []string{"completion", "bash"}},
		{0, []string{"validate"}},
		{2, []string{"staatus"}},
		{2, []string{"status", "--colour"}},
		{2, []string{"status", "-o", "yaml"}},
		{2, []string{"gap", "show"}},
		{3, []string{"plan"}},
		{5, []string{"status"}},
		{5, []string{"gap", "list"}},
		{5, []string{"reload"}},
		{5, []string{"plugin", "restart", "detector.docs"}},
		{5, []string{"status", "--socket", filepath.Join(s.dir, "nothing.sock")}},
		{1, []string{"up", "--config", filepath.Join(s.dir, "nothing.hcl")}},
		{1, []string{"validate", "--config", filepath.Join(s.dir, "nothing.hcl")}},
	} {
		r := s.sop(c.args...)
		if r.code != c.code {
			t.Errorf("want exit %d: %v", c.code, r)
		}
		if c.code != 0 && c.code != 3 && (!strings.Contains(r.stderr, "error:") && !strings.Contains(r.stderr, "Error:")) {
			t.Errorf("no error is told: %v", r)
		}
	}
	r := s.must(5, "status", "-o", "json")
	type failure struct {
		Error struct{ Code, Reason, Message, Remedy string }
	}
	if e := decode[failure](t, result{stdout: r.stderr}).Error; e.Reason != "HOST_UNREACHABLE" || e.Remedy == "" || e.Message == "" || e.Code != "unavailable" {
		t.Errorf("%v", r)
	}
	s.lock()
	s.up()
	s.must(1, "gap", "show", "0000")
	s.must(1, "plugin", "show", "detector.nothing")
	s.must(7, "status", "--watch", "--timeout", "200ms")
}

// Nobody but the owner of the host and root may call it.
func TestDenied(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	if os.Getuid() != 0 {
		t.Skip("only root can run sop as somebody else")
	}
	s.up()
	info, err := os.Stat(s.socket())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
	stranger := *s
	for _, c := range []struct {
		name string
		open func() error
	}{
		{"closed data directory", func() error { return os.Chmod(s.dir, 0o755) }},
		{"open data directory", func() error {
			return firstError(os.Chmod(s.data, 0o755), os.Chmod(filepath.Join(s.data, "state"), 0o755))
		}},
		{"open socket", func() error { return os.Chmod(s.socket(), 0o666) }},
	} {
		if err := c.open(); err != nil {
			t.Fatal(err)
		}
		stranger.as = &syscall.Credential{Uid: nobody, Gid: nobody}
		refused := [][]string{{"reload"}, {"gap", "list"}, {"policy", "list"}}
		if c.name == "open socket" { // who gets through is an exterior agent, which may see the status
			stranger.must(0, "status")
		} else {
			refused = append(refused, []string{"status"})
		}
		for _, args := range refused {
			if r := stranger.sop(args...); r.code != 4 || !strings.Contains(r.stderr, "remedy:") {
				t.Errorf("%s: want exit 4: %v", c.name, r)
			}
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// One host runs on a data directory.
func TestSecondHost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	h := s.up()
	before := h.status()
	if r := s.must(6, "up"); !strings.Contains(r.stderr, "already runs") || !strings.Contains(r.stderr, "remedy:") {
		t.Errorf("%v", r)
	}
	samePlugins(t, before, h.status())
	h.kill()
	s.up() // a host that was killed holds nothing
}
