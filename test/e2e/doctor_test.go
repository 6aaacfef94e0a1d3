package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// examination is what `sop doctor -o json` prints.
type examination struct {
	State  string
	Checks []struct {
		Check, State string
		Findings     []struct{ State, Message, Remedy string }
	}
}

// of returns the state of a check and all that it says.
func (e *examination) of(check string) (state, text string) {
	for _, c := range e.Checks {
		if c.Check != check {
			continue
		}
		for _, f := range c.Findings {
			text += f.State + ": " + f.Message + " (" + f.Remedy + ")\n"
			if f.State != "ok" && f.Remedy == "" {
				return "without remedy", text
			}
		}
		return c.State, text
	}
	return "missing", ""
}

// want asserts that a check says this, with a remedy for what is not well.
func (e *examination) want(t *testing.T, check, state, says string) {
	t.Helper()
	if got, text := e.of(check); got != state || !strings.Contains(text, says) {
		t.Errorf("%s is %s and says\n%swant %s: %s", check, got, text, state, says)
	}
}

func (s *site) doctor(code int) *examination {
	s.t.Helper()
	e := decode[examination](s.t, s.must(code, "doctor", "-o", "json"))
	return &e
}

// A host is examined before its first start, while it runs, which it goes on to
// do undisturbed, after it has ended, and after it was killed.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure(backupsConfigured)
	s.doctor(3).want(t, "plugins", "failed", "plugin detector.docs is not in the lock file")
	s.lock()
	e := s.doctor(0)
	e.want(t, "host", "ok", "no host runs")
	e.want(t, "permissions", "ok", "is not there yet")

	h := s.up()
	h.waitFor("all that is scheduled", savedOnce)
	h.waitFor("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	e = s.doctor(0)
	for check, says := range map[string]string{
		"config": "1 workspace", "host": "runs, pid ", "plugins": "2 programs as the lock file says", "permissions": "its owner's alone", "disk": "inodes free",
		"clock": "later than all", "store": "is sound", "audit": "intact, signed", "backups": "backup nightly was restored on trial at",
	} {
		e.want(t, check, "ok", says)
	}
	if st := h.status(); int(st.GetPid()) != h.pid() || st.GetState() != "ok" || plugin(st, "detector.docs").GetRestarts() != 0 {
		t.Errorf("after it was examined: %v", st)
	}
	if r := s.must(0, "doctor"); !strings.Contains(r.stdout, "\nall is well: ") && !strings.Contains(r.stdout, " 0 failed\n") {
		t.Error(r)
	}
	h.kill()
	s.doctor(0).want(t, "store", "ok", "is sound")
	h = s.up()
	h.stop()
	s.doctor(0).want(t, "audit", "ok", "intact, signed")
}

// What is wrong is found, named, and has a remedy.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	docs := s.install("detector-docs", filepath.Join(shelf, "bin", "plugins", "detector-docs"))
	s.configure()
	s.put(s.conf, strings.ReplaceAll(s.read(s.conf), "${path.plugins}/detector-docs", docs))
	s.lock()
	h := s.up()
	h.stop()
	s.doctor(0).want(t, "backups", "warning", "nothing saves")

	key := filepath.Join(s.data, "state", "token.key")
	s.must(0, "emergency-stop", "--yes")
	for path, mode := range map[string]os.FileMode{key: 0o640, s.data: 0o777, s.conf: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.OpenFile(docs, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := program.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	e := s.doctor(3)
	e.want(t, "host", "warning", "an emergency stop by uid:")
	e.want(t, "permissions", "failed", "(chmod 0600 "+key+")")
	e.want(t, "permissions", "failed", "(chmod 0711 "+s.data+")")
	e.want(t, "permissions", "failed", "(chmod go-w "+s.conf+")")
	e.want(t, "plugins", "failed", "the lock file says sha256:")

	s.put(s.conf, s.read(s.conf)+"plugin {\n")
	e = s.doctor(3)
	e.want(t, "config", "failed", "config.hcl:")
	e.want(t, "store", "ok", "is sound") // it is found all the same
	s.put(s.conf, strings.TrimSuffix(s.read(s.conf), "plugin {\n"))

	database := filepath.Join(s.data, "state", "sop.db")
	content := []byte(s.read(database))
	for i := 3 * 4096; i < len(content)-4096; i += 4096 { // the content of the tables, not the head
		copy(content[i+8:i+1024], strings.Repeat("\xa5", 1016))
	}
	if err := os.WriteFile(database, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.doctor(3).want(t, "store", "failed", "is damaged")
}
