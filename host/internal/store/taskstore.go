package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/task"
)

// Tasks is the [task.Store] in a database.
type Tasks struct{ db *DB }

var (
	_ task.Store = (*Tasks)(nil)
	_ task.Tx    = (*taskTx)(nil)
)

// Tasks returns the task store.
func (db *DB) Tasks() *Tasks { return &Tasks{db} }

// Update implements [task.Store].
func (s *Tasks) Update(ctx context.Context, fn func(tx task.Tx) error) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		t := &taskTx{taskReader: taskReader{s.db, tx}, tx: tx}
		if err := fn(t); err != nil {
			return err
		}
		return s.db.appendAudit(ctx, tx, append(t.records, t.tally.records()...)...)
	})
}

// Get implements [task.Store].
func (s *Tasks) Get(ctx context.Context, ref string) (*task.Task, error) {
	r := taskReader{s.db, s.db.read}
	t, err := r.Get(ctx, ref)
	if err != nil {
		return nil, s.db.translate(err)
	}
	t.History, err = r.history(ctx, t.ID)
	return t, s.db.translate(err)
}

// List implements [task.Store].
func (s *Tasks) List(ctx context.Context, filter task.Filter) (task.Page, error) {
	page, err := taskReader{s.db, s.db.read}.list(ctx, &filter)
	return page, s.db.translate(err)
}

// Gaps implements [task.Store].
func (s *Tasks) Gaps(ctx context.Context, ids []string) ([]task.Gap, error) {
	gaps, err := taskReader{s.db, s.db.read}.Gaps(ctx, ids)
	return gaps, s.db.translate(err)
}

// Counts implements [task.Store].
func (s *Tasks) Counts(ctx context.Context) ([]task.Count, error) {
	counts, err := collect(ctx, s.db.read, func(scan func(...any) error) (task.Count, error) {
		var c task.Count
		return c, scan(&c.Workspace, &c.Kind, &c.State, &c.Tasks)
	}, "SELECT workspace, kind, state, count(*) FROM tasks GROUP BY workspace, state, kind ORDER BY workspace, state, kind")
	return counts, s.db.translate(err)
}

// NextDue implements [task.Store].
func (s *Tasks) NextDue(ctx context.Context, stage task.Stage) (time.Time, bool, error) {
	q := query{dialect: s.db.dialect}
	q.add("SELECT due_at FROM tasks WHERE ")
	in(&q, "state", stage.From())
	q.add(" ORDER BY due_at LIMIT 1")
	return s.moment(ctx, q.text.String(), q.args...)
}

// NextLost implements [task.Store].
func (s *Tasks) NextLost(ctx context.Context) (time.Time, bool, error) {
	return s.moment(ctx, "SELECT lease_until FROM tasks WHERE lease_until IS NOT NULL ORDER BY lease_until LIMIT 1")
}

func (s *Tasks) moment(ctx context.Context, text string, args ...any) (time.Time, bool, error) {
	found, err := collect(ctx, s.db.read, func(scan func(...any) error) (time.Time, error) {
		var at int64
		err := scan(&at)
		return fromNano(at), err
	}, text, args...)
	if err != nil || len(found) == 0 {
		return time.Time{}, false, s.db.translate(err)
	}
	return found[0], true, nil
}

// taskReader reads tasks, inside of a transaction or not.
type taskReader struct {
	db *DB
	q  querier
}

func (r taskReader) tasks(ctx context.Context, where string, args ...any) ([]*task.Task, error) {
	return r.tasksBy(ctx, "", where, args...)
}

// tasksBy reads tasks; hint is of [dialect.by].
func (r taskReader) tasksBy(ctx context.Context, hint, where string, args ...any) ([]*task.Task, error) {
	return collect(ctx, r.q, scanTask, "SELECT "+taskColumns+" FROM tasks"+hint+" WHERE "+where, args...)
}

// Get implements [task.Tx].
func (r taskReader) Get(ctx context.Context, ref string) (*task.Task, error) {
	if ref == "" {
		return nil, task.NotFound(ref)
	}
	found, err := r.tasks(ctx, "id >= $1 AND id < $2 ORDER BY id LIMIT 2", ref, ref+"\U0010ffff")
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, task.NotFound(ref)
	case len(found) > 1:
		return nil, task.Ambiguous(ref)
	}
	return found[0], nil
}

func (r taskReader) history(ctx context.Context, id string) ([]task.Change, error) {
	return collect(ctx, r.q, func(scan func(...any) error) (task.Change, error) {
		c := task.Change{TaskID: id}
		var at int64
		err := scan(&c.Workspace, &c.Action, &at, &c.From, &c.To, &c.By, &c.Why, &c.Fence)
		c.At = fromNano(at)
		return c, err
	}, `SELECT t.workspace, action, at, from_state, to_state, by_whom, why, h.fence
		FROM task_history h JOIN tasks t ON t.id = task_id WHERE task_id = $1 ORDER BY seq`, id)
}

// Gaps implements [task.Tx].
func (r taskReader) Gaps(ctx context.Context, ids []string) ([]task.Gap, error) {
	found, err := r.gaps(ctx, ids)
	out := make([]task.Gap, len(found))
	for i, g := range found {
		out[i] = taskGap(g)
	}
	return out, err
}

func (r taskReader) gaps(ctx context.Context, ids []string) (out []*gap.Gap, err error) {
	for len(ids) > 0 {
		n := min(len(ids), pathsAtATime)
		q := query{dialect: r.db.dialect}
		in(&q, "id", ids[:n])
		some, err := gapReader(r).gaps(ctx, q.text.String(), q.args...)
		if err != nil {
			return nil, err
		}
		out, ids = append(out, some...), ids[n:]
	}
	return out, nil
}

// taskGap is a gap as tasks see it.
func taskGap(g *gap.Gap) task.Gap {
	return task.Gap{
		ID: g.ID, Workspace: g.Workspace, Rule: g.Rule, Type: string(g.Type), Severity: g.Severity.String(), Rank: int(g.Severity),
		Path: g.Path, Line: g.Line, Symbol: g.Symbol, Message: g.Message, Remedy: g.Remedy, Evidence: g.Evidence, State: string(g.State),
		Live: g.State != gap.StateResolved && g.State != gap.StateSuppressed, FirstSeen: g.FirstSeen,
	}
}

// Lost implements [task.Tx].
func (r taskReader) Lost(ctx context.Context, at time.Time, limit int) ([]*task.Task, error) {
	return r.tasks(ctx, "lease_until IS NOT NULL AND lease_until <= $1 ORDER BY lease_until LIMIT $2", at.UnixNano(), limit)
}

// HeldBy implements [task.Tx].
func (r taskReader) HeldBy(ctx context.Context, by string) ([]*task.Task, error) {
	return r.tasks(ctx, "holder = $1 AND holder <> '' ORDER BY id", by)
}

// Loads implements [task.Tx].
func (r taskReader) Loads(ctx context.Context) ([]task.Load, error) {
	return collect(ctx, r.q, func(scan func(...any) error) (task.Load, error) {
		var l task.Load
		return l, scan(&l.Workspace, &l.Sandbox, &l.Tasks)
	}, `SELECT workspace, CASE WHEN holder = $1 THEN sandbox ELSE '' END, count(*) FROM tasks
		WHERE lease_until IS NOT NULL AND state IN ('leased', 'running') GROUP BY 1, 2`, task.HostClaimant)
}

// Blocked implements [task.Tx].
func (r taskReader) Blocked(ctx context.Context, on string, limit int) ([]*task.Task, error) {
	if on == "" {
		return r.tasks(ctx, "state = 'blocked' ORDER BY due_at LIMIT $1", limit)
	}
	return r.tasks(ctx, `state = 'blocked' AND id IN (SELECT task_id FROM task_dependencies WHERE on_id = $1) ORDER BY id LIMIT $2`, on, limit)
}

// Undone implements [task.Tx].
func (r taskReader) Undone(ctx context.Context, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	q := query{dialect: r.db.dialect}
	q.add("SELECT id FROM tasks WHERE state <> 'done' AND ")
	in(&q, "id", ids)
	q.add(" ORDER BY id")
	return collect(ctx, r.q, func(scan func(...any) error) (string, error) {
		var id string
		return id, scan(&id)
	}, q.text.String(), q.args...)
}

// closedStates are the words of [task.ClosedStates] as the index of keys has them.
const closedStates = "('done', 'dead', 'denied', 'cancelled', 'rolled_back')"

// Unclosed implements [task.Tx].
func (r taskReader) Unclosed(ctx context.Context, key string) (*task.Task, error) {
	found, err := r.tasks(ctx, "key = $1 AND key <> '' AND state NOT IN "+closedStates, key)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// taskTx implements [task.Tx].
type taskTx struct {
	taskReader
	tx      *sql.Tx
	records []audit.Record
	tally   gapTally // what becomes of gaps
}

// waitingIndex has what waits for a stage, in the order in which it is claimed.
var waitingIndex = map[task.Stage]string{
	task.StageGenerate: "tasks_to_generate", task.StageVerify: "tasks_to_verify", task.StageIntegrate: "tasks_to_integrate",
}

// Take implements [task.Tx].
func (t *taskTx) Take(ctx context.Context, c task.Candidates, claim task.Claim) (*task.Task, error) {
	attempt := 0
	if c.Stage == task.StageGenerate {
		attempt = 1
	}
	hint := t.db.dialect.by(waitingIndex[c.Stage])
	if c.ID != "" {
		hint = ""
	}
	q := query{dialect: t.db.dialect}
	q.add(`UPDATE tasks SET before = state, state = ?, reason = ?, holder = ?, fence = fence + 1, lease = ?, lease_until = ?,
		attempts = attempts + ?, changed_at = ?, version = version + 1 WHERE id = (SELECT id FROM tasks`+hint+` WHERE `,
		string(c.Stage.To()), claim.Why, claim.By, int64(claim.Lease), claim.Until.UnixNano(), attempt, c.At.UnixNano())
	q.candidates(&c)
	q.add(" ORDER BY pinned DESC, rank DESC, id LIMIT 1) RETURNING " + taskColumns)
	found, err := collect(ctx, t.q, scanTask, q.text.String(), q.args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// candidates appends the condition of what a claim may take. The states stand
// there in words, so that it shows which index has them.
func (q *query) candidates(c *task.Candidates) {
	states := "state = '"
	if from := c.Stage.From(); len(from) == 1 {
		states += string(from[0]) + "'"
	} else {
		states = "state IN ('" + string(from[0]) + "', '" + string(from[1]) + "')"
	}
	q.add(states+" AND due_at <= ?", c.At.UnixNano())
	if c.ID != "" {
		q.add(" AND id = ?", c.ID)
	}
	if c.Workspace != "" {
		q.add(" AND workspace = ?", c.Workspace)
	}
	if c.Routed {
		q.add(" AND sandbox <> ''")
	}
	if len(c.FullWorkspaces) > 0 {
		q.add(" AND NOT ")
		in(q, "workspace", c.FullWorkspaces)
	}
	if len(c.FullSandboxes) > 0 {
		q.add(" AND NOT ")
		in(q, "sandbox", c.FullSandboxes)
	}
}

// Renew implements [task.Tx].
func (t *taskTx) Renew(ctx context.Context, h task.Hold, at time.Time) (*task.Task, error) {
	found, err := collect(ctx, t.q, scanTask, `UPDATE tasks SET lease_until = $4 + lease
		WHERE id = $1 AND fence = $2 AND holder = $3 AND holder <> '' AND lease_until > $4 RETURNING `+taskColumns,
		h.ID, h.Fence, h.By, at.UnixNano())
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// Put implements [task.Tx].
func (t *taskTx) Put(ctx context.Context, tasks []*task.Task, changes []task.Change) error {
	if err := insert(ctx, t.db, t.tx, putTask, tasks, taskValues); err != nil {
		return fmt.Errorf("store tasks: %w", err)
	}
	err := errors.Join(
		insert(ctx, t.db, t.tx, putTaskGap, pairs(tasks, func(t *task.Task) []string { return t.Gaps }), pairValues),
		insert(ctx, t.db, t.tx, putTaskDependency, pairs(tasks, func(t *task.Task) []string { return t.DependsOn }), pairValues),
	)
	if err != nil {
		return fmt.Errorf("store what tasks are about: %w", err)
	}
	err = insert(ctx, t.db, t.tx, putTaskChange, changes, func(args []any, c task.Change) []any {
		return append(args, c.TaskID, string(c.Action), c.At.UnixNano(), string(c.From), string(c.To), c.By, c.Why, c.Fence)
	})
	if err != nil {
		return fmt.Errorf("store the history of tasks: %w", err)
	}
	t.records = append(t.records, taskRecords(changes)...)
	return nil
}

// pairs are tasks with what they name, for those that have just been made: what a
// task names never changes.
func pairs(tasks []*task.Task, named func(*task.Task) []string) (out [][2]string) {
	for _, t := range tasks {
		if t.Version > 1 {
			continue
		}
		for _, id := range named(t) {
			out = append(out, [2]string{t.ID, id})
		}
	}
	return out
}

func pairValues(args []any, p [2]string) []any { return append(args, p[0], p[1]) }

// MoveGaps implements [task.Tx].
func (t *taskTx) MoveGaps(ctx context.Context, ids []string, to, by, why string, at time.Time) error {
	gaps, err := t.gaps(ctx, ids)
	if err != nil {
		return err
	}
	var moved []*gap.Gap
	var history []gap.Change
	for _, g := range gaps {
		changes, err := gap.Follow(g, gap.State(to), by, why, at)
		if err != nil {
			return err
		}
		if len(changes) > 0 {
			moved, history = append(moved, g), append(history, changes...)
		}
	}
	g := &gapTx{gapReader: gapReader(t.taskReader), tx: t.tx}
	err = g.Put(ctx, moved, history)
	t.tally.add(moved, history)
	return err
}
