package store

import (
	"context"

	"github.com/sop-host/sop/host/internal/task"
)

var (
	taskFields = plainColumns(task.ListFields, nil)
	taskOrder  = mustOrder("pinned desc, rank desc, id", task.ListFields)
)

// list returns one page.
func (r taskReader) list(ctx context.Context, f *task.Filter) (task.Page, error) {
	if f.Limit <= 0 || f.Limit > task.MaxPage {
		f.Limit = task.MaxPage
	}
	q := r.selection(f)
	var page task.Page
	if f.Token == "" {
		count := q.clone()
		var err error
		if page.Total, err = number(ctx, r.q, "SELECT count(*) FROM tasks WHERE "+count.text.String(), count.args...); err != nil {
			return page, err
		}
	}
	keys := total(f.Order, taskOrder)
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return page, err
		}
		q.add(" AND ")
		q.after(keys, taskFields, values)
	}
	q.order(keys, taskFields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	hint := ""
	if len(f.Order) == 0 && f.Gap == "" && f.Holder == "" {
		hint = r.db.dialect.by("tasks_in_order")
	}
	tasks, err := r.tasksBy(ctx, hint, q.text.String(), q.args...)
	page.Tasks = tasks
	if err != nil || len(tasks) <= f.Limit {
		return page, err
	}
	page.Tasks = tasks[:f.Limit]
	page.Next, err = nextPage(keys, page.Tasks[f.Limit-1].Field)
	return page, err
}

// selection is the condition of what passes the filter.
func (r taskReader) selection(f *task.Filter) *query {
	q := &query{dialect: r.db.dialect}
	q.where(f.Where, taskFields)
	if f.Workspace != "" {
		q.add(" AND workspace = ?", f.Workspace)
	}
	if f.Holder != "" {
		q.add(" AND holder = ?", f.Holder)
	}
	if f.Gap != "" {
		q.add(" AND id IN (SELECT task_id FROM task_gaps WHERE gap_id = ?)", f.Gap)
	}
	if len(f.States) > 0 {
		q.add(" AND ")
		in(q, "state", f.States)
	}
	if len(f.Kinds) > 0 {
		q.add(" AND ")
		in(q, "kind", f.Kinds)
	}
	return q
}
