package store

import (
	"context"

	"github.com/sop-host/sop/host/internal/token"
)

// stateAt is the state of a token at a time, recorded or not; it takes the time
// twice.
const stateAt = `CASE WHEN state IN ('pending', 'active') AND expires_at <= ? THEN 'expired'
	WHEN state = 'pending' AND not_before <= ? THEN 'active' ELSE state END`

var tokenOrder = mustOrder("id desc", token.ListFields)

// tokenFields are the fields as they are at a time.
func tokenFields(f *token.Filter) columns {
	at := f.At.UnixNano()
	return plainColumns(token.ListFields, columns{
		"state":     {text: "(" + stateAt + ")", args: []any{at, at}},
		"remaining": {text: "(max_uses - uses - reserved)"},
	})
}

// list returns one page.
func (r tokenReader) list(ctx context.Context, f token.Filter) (token.Page, error) {
	if f.Limit <= 0 || f.Limit > token.MaxPage {
		f.Limit = token.MaxPage
	}
	fields, keys := tokenFields(&f), total(f.Order, tokenOrder)
	q := r.selection(&f, fields)
	count := q.clone()
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return token.Page{}, err
		}
		q.add(" AND ")
		q.after(keys, fields, values)
	}
	q.order(keys, fields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	var page token.Page
	var err error
	if page.Tokens, err = r.tokens(ctx, q.text.String(), q.args...); err != nil {
		return page, err
	}
	if len(page.Tokens) > f.Limit {
		page.Tokens = page.Tokens[:f.Limit]
		if page.Next, err = nextPage(keys, page.Tokens[f.Limit-1].At(f.At).Field); err != nil {
			return page, err
		}
	}
	if f.Token == "" {
		page.Total, err = count.total(ctx, r.q, "tokens", len(page.Tokens), page.Next != "", token.MaxTotal)
	}
	return page, err
}

// selection is the condition of what passes the filter.
func (r tokenReader) selection(f *token.Filter, fields columns) *query {
	q := &query{dialect: r.db.dialect}
	q.where(f.Where, fields)
	if f.Requester != "" {
		q.add(" AND requester = ?", f.Requester)
	}
	if f.IssuedBy != "" {
		q.add(" AND issued_by = ?", f.IssuedBy)
	}
	if f.Task != "" {
		q.add(" AND task = ? AND task <> ''", f.Task)
	}
	if len(f.Types) > 0 {
		q.add(" AND ")
		in(q, "type", f.Types)
	}
	if len(f.States) > 0 {
		q.add(" AND "+stateAt+" ", f.At.UnixNano(), f.At.UnixNano())
		in(q, "", f.States)
	}
	return q
}
