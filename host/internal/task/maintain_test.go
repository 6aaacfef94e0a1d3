package task_test

import (
	"slices"
	"testing"

	"github.com/sop-host/sop/host/internal/task"
)

// ensure makes or finds the task of a maintenance request.
func (b *bench) ensure(t *testing.T, workspace, owner string) *task.Task {
	t.Helper()
	made, err := b.Ensure(t.Context(), task.New{
		Kind: task.KindMaintenance, Type: task.TypeMaintenance, Title: "component.scp: it fails", Severity: "high", Workspace: workspace,
		Key: "maintenance/1" + workspace, By: "host", Spec: task.Spec{Goal: "It fails.", Owner: owner},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Of a request there is one task, which goes to its owner, waits for somebody from
// outside, and ends when the subsystem is healthy.
func TestMaintenanceTask(t *testing.T) {
	b := newBench(t, task.Settings{Lease: task.LeastLease, Attempts: 3, Rules: []task.Rule{{Name: "rest", Route: task.Route{Sandbox: "ai"}}}})
	first := b.ensure(t, "", "operator/night")
	if again := b.ensure(t, "", "operator/night"); again.ID != first.ID || again.Version != first.Version {
		t.Errorf("a second one: %+v", again)
	}
	if first.State != task.StateReady || first.Route != "operator/night" || first.Sandbox != "" || first.Priority(b.now()) != 400 {
		t.Errorf("%+v", first)
	}
	if next := b.ensure(t, "", "protocol/arp"); next.ID != first.ID || next.Route != "protocol/arp" {
		t.Errorf("it was not handed over: %+v", next)
	}
	if taken, err := b.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: task.HostClaimant}); err != nil || taken != nil {
		t.Errorf("the host generates for it: %+v, %v", taken, err)
	}
	taken, err := b.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: "bot", ID: first.ID})
	if err != nil || taken.Holder != "bot" {
		t.Fatalf("%+v, %v", taken, err)
	}
	p, err := b.Package(t.Context(), taken)
	if err != nil || p.Kind != task.KindMaintenance || p.Goal != "It fails." || p.Gap.Type != "infrastructure" {
		t.Errorf("%+v, %v", p, err)
	}
	closed, err := b.Close(t.Context(), "maintenance/1", "host", "healthy again")
	if err != nil || closed.ID != first.ID || closed.State != task.StateDone {
		t.Errorf("%+v, %v", closed, err)
	}
	if beat, err := b.Heartbeat(t.Context(), taken.Hold()); err != nil || beat.Stop == "" {
		t.Errorf("whoever works on it is told %+v, %v", beat, err)
	}
	if next := b.ensure(t, "", "operator/night"); next.ID == first.ID {
		t.Error("one that has ended was taken for the next")
	}
}

// A rule takes tasks of maintenance where it names them, and they have a
// workspace.
func TestMaintenanceRule(t *testing.T) {
	b := newBench(t, task.Settings{Lease: task.LeastLease, Attempts: 3, Rules: []task.Rule{
		{Name: "any", Route: task.Route{Sandbox: "ai"}},
		{Name: "mend", Match: task.Match{Types: []string{task.TypeMaintenance}}, Route: task.Route{Sandbox: "mender"}},
	}})
	if made := b.ensure(t, "w", "operator/night"); made.Route != "mend" || made.Sandbox != "mender" {
		t.Errorf("%+v", made)
	}
	if made := b.ensure(t, "", "operator/night"); made.Route != "operator/night" || made.Sandbox != "" {
		t.Errorf("without a workspace: %+v", made)
	}
	if all := b.list(t, task.StateReady); len(all) != 2 || !slices.ContainsFunc(all, func(t *task.Task) bool { return t.Workspace == "" }) {
		t.Errorf("%d ready", len(all))
	}
}
