package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sop-host/sop/host/internal/agent"
)

// Agents is the [agent.Store] in a database.
type Agents struct{ db *DB }

var (
	_ agent.Store = (*Agents)(nil)
	_ agent.Tx    = (*agentTx)(nil)
)

// Agents returns the agent store.
func (db *DB) Agents() *Agents { return &Agents{db} }

// Update implements [agent.Store].
func (s *Agents) Update(ctx context.Context, fn func(tx agent.Tx) error) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		return fn(&agentTx{agentReader{tx}, s.db, tx})
	})
}

// Find implements [agent.Store].
func (s *Agents) Find(ctx context.Context, accessor string) (*agent.Agent, error) {
	found, err := agentReader{s.db.read}.agents(ctx, "name = (SELECT agent FROM agent_keys WHERE accessor = $1)", accessor)
	if err != nil || len(found) == 0 {
		return nil, s.db.translate(err)
	}
	return found[0], nil
}

// Get implements [agent.Store].
func (s *Agents) Get(ctx context.Context, name string) (*agent.Agent, error) {
	a, err := agentReader{s.db.read}.Get(ctx, name)
	return a, s.db.translate(err)
}

// Ends implements [agent.Store].
func (s *Agents) Ends(ctx context.Context) ([]agent.End, error) {
	ends, err := collect(ctx, s.db.read, func(scan func(...any) error) (e agent.End, err error) {
		var at sql.NullInt64
		err = scan(&e.Name, &e.Revoked, &at, &e.Version)
		e.At = zeroOrNano(at)
		return e, err
	}, "SELECT name, state = 'revoked', expires_at, version FROM agents WHERE state = 'revoked' OR expires_at IS NOT NULL ORDER BY name")
	return ends, s.db.translate(err)
}

// Touch implements [agent.Store].
func (s *Agents) Touch(ctx context.Context, used map[string]time.Time) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		for name, at := range used {
			_, err := tx.ExecContext(ctx, "UPDATE agents SET last_used = $2 WHERE name = $1 AND (last_used IS NULL OR last_used < $2)", name, at.UnixNano())
			if err != nil {
				return fmt.Errorf("store last use: %w", err)
			}
		}
		return nil
	})
}

// agentReader reads agents, inside of a transaction or not.
type agentReader struct{ q querier }

// Get implements [agent.Tx].
func (r agentReader) Get(ctx context.Context, name string) (*agent.Agent, error) {
	found, err := r.agents(ctx, "name = $1", name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, agent.NotFound(name)
	}
	return found[0], nil
}

// agents reads agents and then their keys.
func (r agentReader) agents(ctx context.Context, where string, args ...any) ([]*agent.Agent, error) {
	found, err := collect(ctx, r.q, scanAgent, "SELECT "+agentColumns+" FROM agents WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		keys, err := collect(ctx, r.q, scanAgentKey, "SELECT "+agentKeyColumns+" FROM agent_keys WHERE agent = $1 ORDER BY created_at, accessor", a.Name)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			a.Keys = append(a.Keys, k.Key)
		}
	}
	return found, nil
}

// agentTx implements [agent.Tx].
type agentTx struct {
	agentReader
	db *DB
	tx *sql.Tx
}

// Put implements [agent.Tx]. It is the one place where changes of agents are
// written, with their record.
func (t *agentTx) Put(ctx context.Context, a *agent.Agent, change agent.Change) error {
	if err := insert(ctx, t.db, t.tx, putAgent, []*agent.Agent{a}, agentValues); err != nil {
		return fmt.Errorf("store agent: %w", err)
	}
	if _, err := t.tx.ExecContext(ctx, "DELETE FROM agent_keys WHERE agent = $1", a.Name); err != nil {
		return fmt.Errorf("store keys of agent: %w", err)
	}
	keys := make([]heldKey, len(a.Keys))
	for i, k := range a.Keys {
		keys[i] = heldKey{a.Name, k}
	}
	if err := insert(ctx, t.db, t.tx, putAgentKey, keys, agentKeyValues); err != nil {
		return fmt.Errorf("store keys of agent: %w", err)
	}
	return t.db.appendAudit(ctx, t.tx, agentRecord(change))
}
