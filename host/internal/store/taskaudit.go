package store

import (
	"strconv"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/task"
)

// taskRecords are changes of tasks as the audit log has them, one record each.
func taskRecords(changes []task.Change) []audit.Record {
	out := make([]audit.Record, len(changes))
	for i, c := range changes {
		attributes := map[string]string{"workspace": c.Workspace, "fence": strconv.FormatInt(c.Fence, 10)}
		if c.From != c.To {
			attributes["from"], attributes["to"] = string(c.From), string(c.To)
		}
		outcome := audit.Success
		if c.To == task.StateFailed || c.To == task.StateDead {
			outcome = audit.Failure
		}
		out[i] = audit.Record{
			Actor: c.By, Action: "task." + string(c.Action), Resource: "task/" + c.TaskID, Outcome: outcome, Reason: c.Why, Attributes: attributes,
		}
	}
	return out
}
