package store

import (
	"context"
	"math"

	"github.com/sop-host/sop/host/internal/agent"
)

// agentStateAt is the state of an agent at a time; it takes the time.
const agentStateAt = `CASE WHEN state = 'active' AND expires_at <= ? THEN 'expired' ELSE state END`

var agentOrder = mustOrder("name", agent.ListFields)

// agentFields are the fields as they are at a time.
func agentFields(f *agent.Filter) columns {
	return plainColumns(agent.ListFields, columns{"state": {text: "(" + agentStateAt + ")", args: []any{f.At.UnixNano()}}})
}

// List implements [agent.Store].
func (s *Agents) List(ctx context.Context, f agent.Filter) (agent.Page, error) {
	if f.Limit <= 0 || f.Limit > agent.MaxPage {
		f.Limit = agent.MaxPage
	}
	fields, keys := agentFields(&f), total(f.Order, agentOrder)
	q := s.selection(&f, fields)
	count := q.clone()
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return agent.Page{}, err
		}
		q.add(" AND ")
		q.after(keys, fields, values)
	}
	q.order(keys, fields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	var page agent.Page
	var err error
	if page.Agents, err = (agentReader{s.db.read}).agents(ctx, q.text.String(), q.args...); err != nil {
		return page, s.db.translate(err)
	}
	if len(page.Agents) > f.Limit {
		page.Agents = page.Agents[:f.Limit]
		last := *page.Agents[f.Limit-1]
		last.State = last.At(f.At)
		if page.Next, err = nextPage(keys, last.Field); err != nil {
			return page, err
		}
	}
	if f.Token == "" {
		page.Total, err = count.total(ctx, s.db.read, "agents", len(page.Agents), page.Next != "", math.MaxInt64)
	}
	return page, s.db.translate(err)
}

// selection is the condition of what passes the filter.
func (s *Agents) selection(f *agent.Filter, fields columns) *query {
	q := &query{dialect: s.db.dialect}
	q.where(f.Where, fields)
	if f.Trust != "" {
		q.add(" AND trust = ?", string(f.Trust))
	}
	if f.Group != "" {
		q.add(" AND EXISTS (SELECT 1 FROM json_each(CASE groups WHEN '' THEN '[]' ELSE groups END) WHERE value = ?)", f.Group)
	}
	if len(f.States) > 0 {
		q.add(" AND "+agentStateAt+" ", f.At.UnixNano())
		in(q, "", f.States)
	}
	return q
}
