package store

import (
	"context"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/task"
)

// Untasked implements [task.Store].
func (s *Tasks) Untasked(ctx context.Context, workspace string, fn func(task.Gap) error) error {
	const longest = 300 // characters of a message
	rows, err := s.db.read.QueryContext(ctx, `SELECT id, rule, type, severity, path, line, symbol, substr(message, 1, $2), state, first_seen
		FROM gaps WHERE workspace = $1 AND state IN ('open', 'acknowledged') AND NOT EXISTS (
			SELECT 1 FROM task_gaps n JOIN tasks t ON t.id = n.task_id WHERE n.gap_id = gaps.id AND t.state <> 'done')
		ORDER BY rule, path, line, id`, workspace, longest)
	if err != nil {
		return s.db.translate(err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what went wrong
	for rows.Next() {
		g := task.Gap{Workspace: workspace, Live: true}
		var severity gap.Severity
		var seen int64
		if err := rows.Scan(&g.ID, &g.Rule, &g.Type, &severity, &g.Path, &g.Line, &g.Symbol, &g.Message, &g.State, &seen); err != nil {
			return s.db.translate(err)
		}
		g.Severity, g.Rank, g.FirstSeen = severity.String(), int(severity), fromNano(seen)
		if err := fn(g); err != nil {
			return err
		}
	}
	return s.db.translate(rows.Err())
}

// Overtaken implements [task.Tx].
func (r taskReader) Overtaken(ctx context.Context, workspace string, limit int) ([]*task.Task, error) {
	return r.tasks(ctx, `workspace = $1 AND gaps <> '' AND state NOT IN ('done', 'integrating', 'rolled_back') AND NOT EXISTS (
		SELECT 1 FROM task_gaps n JOIN gaps g ON g.id = n.gap_id WHERE n.task_id = tasks.id AND g.state NOT IN ('resolved', 'suppressed'))
		ORDER BY id LIMIT $2`, workspace, limit)
}

// CountOpen implements [task.Tx].
func (r taskReader) CountOpen(ctx context.Context, workspace string) (int, error) {
	q := query{dialect: r.db.dialect}
	q.add("SELECT count(*) FROM tasks WHERE workspace = ? AND kind = ? AND ", workspace, string(task.KindGap))
	in(&q, "state", task.OpenStates())
	n, err := number(ctx, r.q, q.text.String(), q.args...)
	return int(n), err
}

// Backlog implements [task.Tx].
func (r taskReader) Backlog(ctx context.Context, workspace string, limit int) ([]*task.Task, error) {
	return r.tasks(ctx, "workspace = $1 AND state = 'backlog' AND (route <> '' OR sandbox <> '') ORDER BY pinned DESC, rank DESC, id LIMIT $2", workspace, limit)
}

// Waiting implements [task.Tx].
func (r taskReader) Waiting(ctx context.Context, workspace, after string, limit int) ([]*task.Task, error) {
	return r.tasks(ctx, `workspace = $1 AND state IN ('backlog', 'ready', 'blocked', 'failed') AND id > $2 ORDER BY id LIMIT $3`, workspace, after, limit)
}
