package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/task"
)

// taskColumns are the columns of tasks in the order of taskValues and scanTask.
const taskColumns = `id, kind, title, type, severity, workspace, target, rule, gaps, key, route, sandbox, state, before, reason,
	base, since, pinned, rank, depends_on, needs, attempts, max_attempts, interruptions, due_at, holder, fence, lease, lease_until, patch, feedback, spec,
	created_by, created_at, changed_at, version`

var (
	putTask           = bulk{"tasks (" + taskColumns + ")", strings.Count(taskColumns, ",") + 1, " ON CONFLICT (id) DO UPDATE SET " + excluded(taskColumns)}
	putTaskGap        = bulk{"task_gaps (task_id, gap_id)", 2, " ON CONFLICT DO NOTHING"}
	putTaskDependency = bulk{"task_dependencies (task_id, on_id)", 2, " ON CONFLICT DO NOTHING"}
	putTaskChange     = bulk{"task_history (task_id, action, at, from_state, to_state, by_whom, why, fence)", 8, ""}
)

func taskValues(args []any, t *task.Task) []any {
	var lease any
	if !t.LeaseUntil.IsZero() {
		lease = t.LeaseUntil.UnixNano()
	}
	spec, err := json.Marshal(&t.Spec)
	if err != nil {
		panic(err) // it is made of texts and what JSON was read into
	}
	return append(
		args, t.ID, string(t.Kind), t.Title, t.Type, t.Severity, t.Workspace, t.Target, t.Rule, words(t.Gaps), t.Key, t.Route, t.Sandbox,
		string(t.State), string(t.Before), t.Reason, int64(t.Base), t.Since.UnixNano(), pinnedRank(t), t.Rank(), words(t.DependsOn), words(t.Needs),
		int64(t.Attempts), int64(t.MaxAttempts), int64(t.Interruptions), t.DueAt.UnixNano(), t.Holder, t.Fence, int64(t.Lease), lease, t.Patch, t.Feedback, string(spec),
		t.CreatedBy, t.CreatedAt.UnixNano(), t.ChangedAt.UnixNano(), t.Version,
	)
}

// pinnedRank is how lists and filters know whether a task is pinned.
func pinnedRank(t *task.Task) int64 { return t.Field("pinned").Number }

func scanTask(scan func(...any) error) (*task.Task, error) {
	t := new(task.Task)
	var gaps, depends, needs, spec string
	var since, rank, pinned, due, lease, created, changed int64
	var until sql.NullInt64
	err := scan(
		&t.ID, &t.Kind, &t.Title, &t.Type, &t.Severity, &t.Workspace, &t.Target, &t.Rule, &gaps, &t.Key, &t.Route, &t.Sandbox,
		&t.State, &t.Before, &t.Reason, &t.Base, &since, &pinned, &rank, &depends, &needs,
		&t.Attempts, &t.MaxAttempts, &t.Interruptions, &due, &t.Holder, &t.Fence, &lease, &until, &t.Patch, &t.Feedback, &spec,
		&t.CreatedBy, &created, &changed, &t.Version,
	)
	if err != nil {
		return nil, err
	}
	t.Since, t.DueAt, t.CreatedAt, t.ChangedAt = fromNano(since), fromNano(due), fromNano(created), fromNano(changed)
	t.Lease = time.Duration(lease)
	if until.Valid {
		t.LeaseUntil = fromNano(until.Int64)
	}
	t.Pinned = pinned > 1
	if err := json.Unmarshal([]byte(spec), &t.Spec); err != nil {
		return nil, fmt.Errorf("task in the database: %w", err)
	}
	for _, list := range []struct {
		text string
		to   *[]string
	}{{gaps, &t.Gaps}, {depends, &t.DependsOn}, {needs, &t.Needs}} {
		if *list.to, err = readWords(list.text); err != nil {
			return nil, err
		}
	}
	return t, nil
}
