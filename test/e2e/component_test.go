package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// shellComponent is the block of a component that is a shell script.
func shellComponent(name, script string, settings ...string) string {
	return fmt.Sprintf("component %q {\n  command = \"/bin/sh\"\n  args = [\"-c\", %q]\n  %s\n}\n", name, script, strings.Join(settings, "\n  "))
}

func component(s *apiv1.Status, name string) *apiv1.ComponentStatus {
	for _, c := range s.GetComponents() {
		if c.GetName() == name {
			return c
		}
	}
	return nil
}

func stateOf(name, state string) func(*apiv1.Status) bool {
	return func(s *apiv1.Status) bool { return component(s, name).GetState() == state }
}

// Components come up in order, are operated from the command line, follow the
// configuration, and are gone with the host.
func TestComponents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	base := shellComponent("base", "echo base is up; exec sleep 300", `readiness { log = "is up" }`)
	demand := shellComponent("demand", "exec sleep 300", `depends_on = ["base"]`, `activation = "on_demand"`)
	s.configure(base, demand, shellComponent("bad", "exit 3", `required = true`, `readiness { tcp = "127.0.0.1:1" }`, `restart { breaker_failures = 1 }`))
	h := s.up()
	st := h.waitFor("the components have settled", func(st *apiv1.Status) bool {
		return stateOf("base", "ready")(st) && stateOf("bad", "failed")(st) && stateOf("demand", "idle")(st)
	})
	if st.GetState() != "failed" {
		t.Errorf("a required component has failed, and the host is %s", st.GetState())
	}
	if r := s.must(0, "component", "logs", "base"); !strings.Contains(r.stdout, "base is up") {
		t.Errorf("logs: %v", r)
	}
	s.must(0, "component", "start", "demand")
	if r := s.must(1, "component", "stop", "base"); !strings.Contains(r.stderr, "needed by demand") {
		t.Errorf("%v", r)
	}
	if r := s.must(0, "component", "stop", "base", "--dependants"); !strings.Contains(r.stdout, "demand is stopped, which depends on it") {
		t.Errorf("what was stopped with it is not named: %v", r)
	}
	s.must(0, "component", "start", "base")
	pid := component(h.status(), "base").GetPid()
	s.configure(base, shellComponent("new", "exec sleep 300", `depends_on = ["base"]`))
	s.must(0, "reload")
	st = h.waitFor("the new component", stateOf("new", "ready"))
	if component(st, "base").GetPid() != pid || component(st, "demand") != nil || component(st, "bad") != nil {
		t.Errorf("after the reload: %v", st.GetComponents())
	}
	s.configure(base, shellComponent("new", "exec sleep 300", `depends_on = ["bose"]`))
	if r := s.must(1, "reload"); !strings.Contains(r.stderr+r.stdout, `Did you mean "base"?`) {
		t.Errorf("%v", r)
	}
	h.stopInTime()
	s.noProcesses()
}

// A host that was killed leaves what may survive, and the next one takes it back.
func TestComponentSurvives(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure(shellComponent("stays", "exec sleep 300", `survive = "adopt"`), shellComponent("goes", "exec sleep 300"))
	h := s.up()
	h.waitFor("both are ready", func(st *apiv1.Status) bool { return stateOf("stays", "ready")(st) && stateOf("goes", "ready")(st) })
	stays, goes := component(h.status(), "stays").GetPid(), watchProcess(t, int(component(h.status(), "goes").GetPid()))
	h.kill()
	if !goes.gone(patience) {
		t.Error("a component outlived its host")
	}
	h = s.up()
	st := h.waitFor("both are ready again", func(st *apiv1.Status) bool { return stateOf("stays", "ready")(st) && stateOf("goes", "ready")(st) })
	if c := component(st, "stays"); c.GetPid() != stays || !c.GetAdopted() {
		t.Errorf("%d was not taken back: %v", stays, c)
	}
	h.stopInTime()
	s.noProcesses()
}

// An emergency stop refuses tokens, kills everything and keeps it down, also over
// a start and when the host hangs, until it is lifted.
func TestEmergencyStop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var blocks []string
	for n := range 5 {
		blocks = append(blocks, shellComponent(fmt.Sprintf("c%d", n), "trap '' TERM; sleep 300 & wait; sleep 300", `survive = "adopt"`, `stop { grace = "200ms" }`))
	}
	s.configure(blocks...)
	h := s.up()
	h.waitFor("the components", stateOf("c4", "ready"))
	secret := decode[struct{ Secret string }](t, s.must(0, "token", "issue", "--type", "operation", "--protocol", "arp", "--operation", "run", "-o", "json")).Secret
	s.put(s.dir+"/secret", secret)
	use := []string{"token", "validate", s.dir + "/secret", "--protocol", "arp", "--operation", "run"}
	s.must(0, use...)
	if r := s.sop("emergency-stop"); r.code == 0 {
		t.Errorf("nobody confirmed: %v", r)
	}
	all := s.watchSite(h.pid())
	r := decode[struct {
		Emergency struct {
			TokensRefusedAfter string `json:"tokens_refused_after"`
			DeadAfter          string `json:"dead_after"`
			ComponentsKilled   int    `json:"components_killed"`
			TokensRevoked      int    `json:"tokens_revoked"`
		}
	}](t, s.must(0, "emergency-stop", "--yes", "--reason", "a drill", "-o", "json")).Emergency
	for what, bound := range map[string]time.Duration{r.TokensRefusedAfter: 100 * time.Millisecond, r.DeadAfter: 2 * time.Second} {
		if took, err := time.ParseDuration(what); err != nil || took > bound+allowance {
			t.Errorf("%s instead of %v: %+v", what, bound, r)
		}
	}
	if r.ComponentsKilled != 5 || r.TokensRevoked != 1 {
		t.Errorf("%+v", r)
	}
	allGone(t, 2*time.Second+allowance, all)
	if r := s.sop(use...); r.code == 0 {
		t.Errorf("the token is accepted: %v", r)
	}
	// A restart brings nothing up.
	h.stopInTime()
	h = s.up()
	st := h.waitFor("the host is stopped", func(st *apiv1.Status) bool { return st.GetState() == "stopped" })
	if st.GetEmergency().GetReason() != "a drill" || component(st, "c0").GetState() != "stopped" {
		t.Errorf("%v", st)
	}
	s.must(0, "resume")
	h.waitFor("everything is up again", stateOf("c4", "ready"))
	if r := s.sop(use...); r.code == 0 {
		t.Errorf("the token has come back to life: %v", r)
	}
	// The host hangs.
	all = s.watchSite(h.pid())
	if err := syscall.Kill(h.pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.must(0, "emergency-stop", "--yes")
	allGone(t, 2*time.Second+allowance, all)
	t.Logf("without the host: %v", time.Since(begin))
	if err := syscall.Kill(h.pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.waitFor("the host has noticed", func(st *apiv1.Status) bool {
		return st.GetState() == "stopped" && component(st, "c0").GetState() == "stopped"
	})
	s.must(0, "resume")
	h.waitFor("everything is up again", stateOf("c4", "ready"))
	if records := s.must(0, "audit", "search", "--limit", "1000").stdout; strings.Count(records, "host.emergency_stop") != 2 {
		t.Errorf("the record: %s", records)
	}
	h.stopInTime()
	s.noProcesses()
}

// A component under a profile cannot read what is not shown to it, and its status
// names the layers in force; one under a profile that cannot be had is refused, or
// runs without where that is permitted.
func TestComponentSandbox(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	own := s.dir + "/own"
	s.put(own+"/README.md", readme)
	in := fmt.Sprintf("dir = %q", own)
	const script = "cat /etc/shadow; echo x > ../escaped; echo x > written; echo done; exec sleep 300"
	s.configure(
		"sandbox_profile \"lax\" {\n  read_only = [\"/no/such/tree\"]\n  enforce = false\n}\nsandbox_profile \"firm\" {\n  read_only = [\"/no/such/tree\"]\n}\n",
		shellComponent("boxed", script, in, `sandbox_profile = "default"`, `readiness { log = "done" }`),
		shellComponent("lax", "exec sleep 300", in, `sandbox_profile = "lax"`),
		shellComponent("firm", "exec sleep 300", in, `sandbox_profile = "firm"`),
	)
	s.lock()
	h := s.up()
	st := h.waitFor("the components have settled", func(st *apiv1.Status) bool {
		boxed := component(st, "boxed").GetState()
		return (boxed == "ready" || boxed == "failed") && stateOf("lax", "ready")(st) && stateOf("firm", "failed")(st)
	})
	if e := component(st, "firm").GetLastError(); e.GetReason() != "COMPONENT_SANDBOX" || !strings.Contains(e.GetMessage(), "/no/such/tree") {
		t.Errorf("%v", e)
	}
	if b := component(st, "lax").GetSandbox(); b.GetRefused() == "" || len(b.GetLayers()) > 0 {
		t.Errorf("%v", b)
	}
	if e := component(st, "boxed").GetLastError(); e.GetReason() == "COMPONENT_SANDBOX" {
		t.Skipf("not on this machine: %v", e)
	}
	if r := s.must(0, "component", "show", "boxed"); !strings.Contains(r.stdout, "profile default, strict, root of its own") || !strings.Contains(r.stdout, "seccomp") {
		t.Errorf("%v", r)
	}
	if r := s.must(0, "component", "logs", "boxed"); strings.Contains(r.stdout, "root:") || !strings.Contains(r.stdout, "shadow: No such file") {
		t.Errorf("%v", r)
	}
	if got := s.read(own + "/written"); got != "x\n" {
		t.Errorf("its own directory holds %q", got)
	}
	if _, err := os.Stat(s.dir + "/escaped"); err == nil {
		t.Error("it wrote outside of its directory")
	}
	h.stopInTime()
	s.noProcesses()
}
