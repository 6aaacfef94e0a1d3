package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type selfTested struct {
	Passed bool
	Steps  []struct {
		Name, State, Detail, Remedy string
		Took                        int64 `json:"took_ns"`
	}
}

// of returns the state of a step and what it says.
func (r *selfTested) of(name string) (state, detail string) {
	for _, s := range r.Steps {
		if s.Name == name {
			return s.State, s.Detail + " (" + s.Remedy + ")"
		}
	}
	return "missing", ""
}

// The self-test passes beside a host that runs, which notices nothing; the end of
// the site asserts that nothing is left.
func TestSelftest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	h := s.up()
	h.waitFor("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	r := decode[selfTested](t, s.must(0, "selftest", "-o", "json"))
	if !r.Passed || len(r.Steps) != 8 {
		t.Errorf("%+v", r)
	}
	for name, says := range map[string]string{
		"start": "3 plugins in service", "tokens": "refused as TOKEN_EXHAUSTED", "gaps": "5 of 5 known gaps found and nothing else; 3 mended ones resolved",
		"backup": "restored byte for byte", "audit": "of the test intact", "stop": "nothing is left",
	} {
		if state, detail := r.of(name); state != "passed" || !strings.Contains(detail, says) {
			t.Errorf("%s: %s, %s", name, state, detail)
		}
	}
	if state, detail := r.of("sandbox"); state == "failed" {
		t.Errorf("sandbox: %s", detail)
	} else if state == "skipped" {
		t.Logf("the sandbox was not tried: %s", detail)
	}
	if st := h.status(); int(st.GetPid()) != h.pid() || st.GetState() != "ok" || len(st.GetWorkspaces()) != 1 {
		t.Errorf("the host beside it: %v", st)
	}
	h.stop()
}

// A plugin that is not what its name says, and one that is not there, fail the
// self-test with a remedy, and nothing is left either.
func TestSelftestFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	plugins := filepath.Join(shelf, "bin", "plugins")
	for name, program := range map[string]string{"detector-docs": "detector-docs", "backup-files": "backup-files", "detector-code": "detector-docs"} {
		s.install(name, filepath.Join(plugins, program))
	}
	dir := filepath.Join(s.dir, "plugins")
	r := decode[selfTested](t, s.must(1, "selftest", "-o", "json", "--plugins-dir", dir))
	if state, detail := r.of("gaps"); r.Passed || state != "failed" || !strings.Contains(detail, "code.stub work/work.go") {
		t.Errorf("an impostor: %s, %s", state, detail)
	}
	if state, detail := r.of("backup"); state != "passed" {
		t.Errorf("what does not need it: %s, %s", state, detail)
	}
	if err := os.Remove(filepath.Join(dir, "detector-code")); err != nil {
		t.Fatal(err)
	}
	if r := s.must(1, "selftest", "--plugins-dir", dir); !strings.Contains(r.stdout, "remedy: install sop with its plugins") || !strings.Contains(r.stdout, "\nfailed in ") ||
		!strings.Contains(r.stdout, "there is no host to test") {
		t.Error(r)
	}
}
