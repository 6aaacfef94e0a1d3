package store

import (
	"context"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/gap"
)

var (
	gapFields = plainColumns(gap.ListFields, nil)
	gapOrder  = mustOrder("severity desc, path, line, id", gap.ListFields)
)

// mustOrder reads an order of ours.
func mustOrder(text string, fields filter.Schema) []filter.Key {
	keys, err := filter.ParseOrder(text, fields)
	if err != nil {
		panic(err)
	}
	return keys
}

// list returns one page.
func (r gapReader) list(ctx context.Context, f gap.Filter) (gap.Page, error) {
	if f.Limit <= 0 || f.Limit > gap.MaxPage {
		f.Limit = gap.MaxPage
	}
	q := r.selection(&f)
	var page gap.Page
	if f.Token == "" {
		count := q.clone()
		var err error
		if page.Total, err = number(ctx, r.q, "SELECT count(*) FROM gaps WHERE "+count.text.String(), count.args...); err != nil {
			return page, err
		}
	}
	keys := total(f.Order, gapOrder)
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return page, err
		}
		q.add(" AND ")
		q.after(keys, gapFields, values)
	}
	q.order(keys, gapFields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	gaps, err := r.gaps(ctx, q.text.String(), q.args...)
	page.Gaps = gaps
	if err != nil || len(gaps) <= f.Limit {
		return page, err
	}
	page.Gaps = gaps[:f.Limit]
	page.Next, err = nextPage(keys, page.Gaps[f.Limit-1].Field)
	return page, err
}

// selection is the condition of what passes the filter.
func (r gapReader) selection(f *gap.Filter) *query {
	q := &query{dialect: r.db.dialect}
	q.add("severity >= ?", int64(f.Severity))
	for _, c := range []struct{ column, value string }{
		{"workspace", f.Workspace}, {"rule", f.Rule}, {"detector", f.Detector},
	} {
		if c.value != "" {
			q.add(" AND "+c.column+" = ?", c.value)
		}
	}
	if len(f.States) > 0 {
		q.add(" AND ")
		in(q, "state", f.States)
	}
	if f.Path != "" {
		q.add(" AND ")
		q.beneath(column{text: "path"}, f.Path)
	}
	q.add(" AND ")
	q.where(f.Where, gapFields)
	return q
}
