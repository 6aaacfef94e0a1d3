package store

import (
	"context"

	"github.com/sop-host/sop/host/internal/patch"
)

var (
	patchFields = plainColumns(patch.ListFields, nil)
	patchOrder  = mustOrder("id desc", patch.ListFields)
)

// list returns one page.
func (r patchReader) list(ctx context.Context, f *patch.Filter) (patch.Page, error) {
	if f.Limit <= 0 || f.Limit > patch.MaxPage {
		f.Limit = patch.MaxPage
	}
	q, keys := r.selection(f), total(f.Order, patchOrder)
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return patch.Page{}, err
		}
		q.add(" AND ")
		q.after(keys, patchFields, values)
	}
	q.order(keys, patchFields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	patches, err := r.patches(ctx, patchShort, q.text.String(), q.args...)
	if err != nil || len(patches) <= f.Limit {
		return patch.Page{Patches: patches}, err
	}
	patches = patches[:f.Limit]
	next, err := nextPage(keys, patches[f.Limit-1].Field)
	return patch.Page{Patches: patches, Next: next}, err
}

// selection is the condition of what passes the filter.
func (r patchReader) selection(f *patch.Filter) *query {
	q := &query{dialect: r.db.dialect}
	q.where(f.Where, patchFields)
	if f.Workspace != "" {
		q.add(" AND workspace = ?", f.Workspace)
	}
	if f.Task != "" {
		q.add(" AND task = ?", f.Task)
	}
	if len(f.States) > 0 {
		q.add(" AND ")
		in(q, "state", f.States)
	}
	return q
}
