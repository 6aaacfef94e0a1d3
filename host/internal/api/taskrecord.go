package api

import (
	"time"

	"github.com/sop-host/sop/host/internal/task"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// TaskRecord converts a task; nil is nil.
func TaskRecord(t *task.Task) *apiv1.TaskRecord {
	if t == nil {
		return nil
	}
	r := &apiv1.TaskRecord{
		Id: t.ID, Kind: string(t.Kind), Title: t.Title, Type: t.Type, Severity: t.Severity, Workspace: t.Workspace, Target: t.Target, Rule: t.Rule,
		Gaps: t.Gaps, Route: t.Route, Sandbox: t.Sandbox, State: string(t.State), Reason: t.Reason, Priority: int64(t.Priority(time.Now())), Pinned: t.Pinned,
		DependsOn: t.DependsOn, Needs: t.Needs, Attempts: int32(t.Attempts), MaxAttempts: int32(t.MaxAttempts), DueAt: stamp(t.DueAt),
		Holder: t.Holder, Fence: t.Fence, LeaseUntil: stamp(t.LeaseUntil), Patch: t.Patch, Feedback: t.Feedback,
		CreatedBy: t.CreatedBy, CreatedAt: stamp(t.CreatedAt), ChangedAt: stamp(t.ChangedAt),
	}
	for _, c := range t.History {
		r.History = append(r.History, &apiv1.TaskTransition{
			At: stamp(c.At), Action: string(c.Action), From: string(c.From), To: string(c.To), By: c.By, Reason: c.Why, Fence: c.Fence,
		})
	}
	return r
}
