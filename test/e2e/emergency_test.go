package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// What an emergency stop ends in [TestEmergencyStopOfMany].
const (
	manyComponents = 50
	manySandboxes  = 20 // components in sandboxes, and generators
	generators     = 2  // runs of a plugin, among them
)

// stubborn is a script that ignores its signal and starts what leaves its session,
// where that is permitted; nap, in seconds, is by what its processes are found.
func stubborn(nap string) string {
	return fmt.Sprintf("trap '' TERM INT HUP; { setsid sleep %s || sleep %[1]s; } & echo up; while :; do sleep %[1]s; done", nap)
}

// sleeping returns the processes that sleep for so long, wherever they are.
func sleeping(t *testing.T, nap string) (out []*watch) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || string(cmdline) != "sleep\x00"+nap+"\x00" {
			continue
		}
		if w, err := openWatch(pid); err == nil { // else it has gone since
			out = append(out, w)
		}
	}
	return out
}

func closeAll(all []*watch) {
	for _, w := range all {
		w.close()
	}
}

// crowdedSite is a site with many components, bare and in sandboxes, and a
// generator that never ends and tasks for it.
func crowdedSite(t *testing.T, componentNap, sandboxNap string) *site {
	t.Helper()
	s := gitSite(t)
	s.write("go.mod", "module example.com/many\n\ngo 1.25\n")
	for n := range generators {
		s.grow(n)
	}
	blocks := []string{fmt.Sprintf(`
plugin "sandbox" "stubborn" {
  command = "${path.plugins}/sandbox-exec"
  config {
    command = ["sh", "-c", %q]
  }
}

rule "docs" {
  match {
    rule = "docs.go.exported"
  }
  sandbox = "stubborn"
}
`, stubborn(sandboxNap))}
	settings := []string{`readiness { log = "up" }`, `stop { grace = "200ms" }`}
	for n := range manyComponents {
		blocks = append(blocks, shellComponent(fmt.Sprintf("c%d", n), stubborn(componentNap), settings...))
	}
	own := s.dir + "/own"
	s.put(own+"/README.md", readme)
	boxed := append(slices.Clone(settings), `sandbox_profile = "default"`, fmt.Sprintf("dir = %q", own))
	for n := range manySandboxes - generators {
		blocks = append(blocks, shellComponent(fmt.Sprintf("boxed%d", n), stubborn(sandboxNap), boxed...))
	}
	s.configure(blocks...)
	s.lock()
	return s
}

// An emergency stop of fifty components and twenty sandboxes, all of which ignore
// their signal and have started more: tokens are refused within 100 ms of the
// request, and every process is dead within 2 s.
func TestEmergencyStopOfMany(t *testing.T) {
	componentNap, sandboxNap := strconv.Itoa(100_000_000+os.Getpid()), strconv.Itoa(200_000_000+os.Getpid())
	s := crowdedSite(t, componentNap, sandboxNap)
	s.needsLevel("strict")
	h := s.up()
	var all []*watch
	if !eventually(patience, func() bool {
		closeAll(all)
		all = sleeping(t, sandboxNap)
		return len(all) == 2*manySandboxes
	}) {
		t.Fatalf("%d processes in sandboxes, not %d: %+v", len(all), 2*manySandboxes, h.tasks())
	}
	all = append(all, sleeping(t, componentNap)...)
	all = append(all, s.watchSite(h.pid())...)
	defer closeAll(all)
	if len(all) < 2*manyComponents+2*manySandboxes {
		t.Fatalf("only %d processes run", len(all))
	}

	client := s.dial()
	tokens := apiv1connect.NewTokenClient(client, "http://sop")
	secret := decode[struct{ Secret string }](t, s.must(0, "token", "issue", "--type", "operation", "--protocol", "arp", "--operation", "run", "-o", "json")).Secret
	accepted := func() bool {
		_, err := tokens.ValidateToken(t.Context(), connect.NewRequest(&apiv1.ValidateTokenRequest{
			Secret: secret, Use: &apiv1.TokenUse{Protocol: "arp", Operation: "run"},
		}))
		return err == nil
	}
	if !accepted() {
		t.Fatal("the token is not accepted to begin with")
	}
	refused := make(chan time.Time, 1)
	go func() { // what each answer says held when it was asked for
		for {
			asked := time.Now()
			if !accepted() {
				refused <- asked
				return
			}
		}
	}()
	began := time.Now()
	stopped := make(chan *apiv1.EmergencyStopResponse, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		answer, err := apiv1connect.NewEmergencyClient(client, "http://sop").EmergencyStop(ctx, connect.NewRequest(&apiv1.EmergencyStopRequest{Reason: "a drill"}))
		if err != nil {
			t.Errorf("emergency stop: %v", err)
			close(stopped)
			return
		}
		stopped <- answer.Msg
	}()
	allGone(t, 2*time.Second+allowance, all)
	dead := time.Since(began)
	refusal := max(0, (<-refused).Sub(began))
	if refusal > 100*time.Millisecond+allowance {
		t.Errorf("tokens were accepted for %v", refusal)
	}
	answer := <-stopped
	if answer.GetComponentsKilled() != manyComponents+manySandboxes-generators || len(answer.GetProblems()) != 0 {
		t.Errorf("%v", answer)
	}
	closeAll(all)
	all = append(sleeping(t, sandboxNap), sleeping(t, componentNap)...)
	if len(all) > 0 {
		t.Errorf("%d processes live on, such as %s", len(all), all[0].what)
	}
	t.Logf("%d components and %d sandboxes: tokens refused after %v, everything dead after %v; the host says %v and %v", manyComponents, manySandboxes,
		refusal.Round(time.Millisecond), dead.Round(time.Millisecond), answer.GetTokensRefusedAfter().AsDuration(), answer.GetDeadAfter().AsDuration())
	h.stopInTime()
	s.noProcesses()
}
