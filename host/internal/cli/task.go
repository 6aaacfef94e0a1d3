package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

var (
	// taskStates are the states of tasks, as the API names them.
	taskStates = []string{
		"backlog", "ready", "blocked", "leased", "running", "proposed", "verifying", "awaiting_approval", "approved", "integrating",
		"done", "failed", "dead", "denied", "cancelled", "rolled_back",
	}
	taskKinds = []string{"gap", "maintenance", "manual"}
)

func (a *app) newTaskCommand() *cobra.Command {
	return a.newGroup("task", "Look at tasks, make some, and work on them",
		`A task is what is to be done about a gap, or about several of one rule in one place. Whoever works on one claims it: the claim
holds for a while and is renewed by heartbeats, and its result is taken over under the claim's fencing number only.`,
		a.newTaskListCommand(), a.newTaskShowCommand(), a.newTaskCreateCommand(), a.newTaskClaimCommand(), a.newTaskHeartbeatCommand(),
		a.newTaskSubmitCommand(), a.newTaskGiveUpCommand(), a.newTaskVerdictCommand(), a.newTaskCancelCommand(), a.newTaskRetryCommand(), a.newTaskPinCommand())
}

// printTask writes one task with all there is to know, but the package.
func (a *app) printTask(t *apiv1.TaskRecord) {
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s\n", palette.Paint(taskStyle(t.GetState()), term.Safe(t.GetState())), palette.Paint(term.Bold, term.Safe(t.GetTitle())))
	for _, f := range a.taskFields(t) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	if len(t.GetHistory()) == 0 {
		return
	}
	a.say("\nhistory\n")
	for _, c := range t.GetHistory() {
		line := c.GetAt().AsTime().Format("2006-01-02 15:04:05") + "  " + c.GetAction()
		if c.GetFrom() != c.GetTo() {
			line += ", " + joinNonEmpty(" → ", c.GetFrom(), c.GetTo())
		}
		if c.GetBy() != "" {
			line += " by " + c.GetBy()
		}
		a.say("  %s\n", term.Safe(joinNonEmpty(": ", line, c.GetReason())))
	}
}

func (a *app) taskFields(t *apiv1.TaskRecord) [][2]string {
	now := a.now()
	priority := fmt.Sprint(t.GetPriority())
	if t.GetPinned() {
		priority += ", pinned"
	}
	fields := [][2]string{
		{"reason", t.GetReason()},
		{"target", t.GetTarget()},
		{"workspace", t.GetWorkspace()},
		{"kind", joinNonEmpty(", ", t.GetKind(), t.GetType(), t.GetSeverity())},
		{"rule", t.GetRule()},
		{"route", joinNonEmpty(", sandbox ", t.GetRoute(), t.GetSandbox())},
		{"priority", priority},
		{"gaps", strings.Join(t.GetGaps(), ", ")},
		{"depends on", strings.Join(t.GetDependsOn(), ", ")},
		{"needs", strings.Join(t.GetNeeds(), ", ")},
		{"waits for", strings.Join(t.GetWaitsFor(), "; ")},
		{"attempts", fmt.Sprintf("%d of %d", t.GetAttempts(), t.GetMaxAttempts())},
	}
	if t.GetHolder() != "" {
		fields = append(fields, [2]string{"held by", fmt.Sprintf("%s, fence %d, until %s", t.GetHolder(), t.GetFence(), t.GetLeaseUntil().AsTime().Format("15:04:05 MST"))})
	}
	if t.GetState() == "failed" {
		fields = append(fields, [2]string{"next try", t.GetDueAt().AsTime().Format("2006-01-02 15:04:05 MST")})
	}
	return append(fields, [2]string{"patch", t.GetPatch()}, [2]string{"feedback", t.GetFeedback()},
		[2]string{"made", ago(now, t.GetCreatedAt()) + " by " + t.GetCreatedBy()}, [2]string{"id", t.GetId()})
}

func taskStyle(state string) term.Style {
	switch state {
	case "done":
		return term.Green
	case "failed", "dead", "denied", "rolled_back":
		return term.Red
	case "awaiting_approval", "blocked":
		return term.Yellow
	}
	return term.Bold
}

// printTaskDecision says in one line what became of a task.
func (a *app) printTaskDecision(what string, t *apiv1.TaskRecord) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"task": {t}})
	}
	a.say("%s %s: %s\n", what, term.Safe(t.GetId()), term.Safe(t.GetTitle()))
	return nil
}
