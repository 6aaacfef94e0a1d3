package startup

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/token"
)

// openTokens makes the token service and keeps it swept until the host stops.
func (h *host) openTokens(ctx context.Context, undo *closers) error {
	gone := isGone(h.dir.tokenKey())
	key, err := token.LoadKey(h.dir.tokenKey())
	if err != nil {
		return err
	}
	h.secrets = key.Derive
	h.tokens, err = token.NewService(ctx, h.store.Tokens(), token.Options{
		Key: key, Publisher: h.publisher(), Limits: tokenLimits(h.loaded.Load().config),
		Holder: h.tokenHolder,
	})
	if err != nil {
		return err
	}
	if gone {
		live, err := h.tokens.List(ctx, token.Filter{States: []token.State{token.StatePending, token.StateActive}, Limit: 1})
		if err != nil {
			return err
		}
		if live.Total > 0 {
			h.rekeyed(h.dir.tokenKey(), "no token of before is accepted any more")
		}
	}
	started := h.tokens.Now()
	undo.add(background(ctx, func(ctx context.Context) { h.endOwnTokens(ctx, started) }))
	sweeps, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until everything that uses tokens has ended
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.sweepTokens(sweeps)
	}()
	undo.add(func() error {
		cancel()
		<-done
		return nil
	})
	return nil
}

// revokeAtOnce is how many revocations share what a commit costs.
const revokeAtOnce = 32

// revokeTokens revokes the tokens that live, pass the filter and were issued by a
// time, whenever where that is zero, with all that was issued from them, and returns how many that were.
func (h *host) revokeTokens(ctx context.Context, f token.Filter, until time.Time, by, why string) (int64, error) {
	var revoked atomic.Int64
	f.States = []token.State{token.StatePending, token.StateActive}
	for {
		page, err := h.tokens.List(ctx, f)
		if err != nil {
			return revoked.Load(), err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(revokeAtOnce)
		for _, t := range page.Tokens {
			if !until.IsZero() && t.CreatedAt.After(until) {
				continue
			}
			group.Go(func() error {
				_, n, err := h.tokens.Revoke(ctx, t.ID, by, why)
				revoked.Add(int64(n))
				return err
			})
		}
		if err := group.Wait(); err != nil || page.Next == "" {
			return revoked.Load(), err
		}
		f.Token = page.Next
	}
}

// endOwnTokens revokes what the host has given to plugins for a call, a run or as long
// as they serve, and did not take back, since it was killed: they have ended with it.
// Where that fails they end by themselves, and nobody holds them any more.
func (h *host) endOwnTokens(ctx context.Context, started time.Time) {
	for _, p := range h.loaded.Load().config.Plugins {
		own := token.Filter{Requester: nexus.PluginName(p.ID()), IssuedBy: actorHost}
		if _, err := h.revokeTokens(ctx, own, started, actorHost, "the host that it was given out by has ended"); err != nil && ctx.Err() == nil {
			h.logger.Warn("end the tokens of before the start", "plugin", p.ID(), "error", err)
		}
	}
}

// tokenLimits are the configured limits.
func tokenLimits(cfg *config.Config) map[token.Type]token.Limits {
	out := make(map[token.Type]token.Limits, len(cfg.Tokens))
	for name, l := range cfg.Tokens {
		out[token.Type(name)] = token.Limits{TTL: l.TTL, MaxLife: l.MaxLife, MaxUses: l.MaxUses, MostUses: l.MostUses}
	}
	return out
}

// sweepTokens records what the time has brought, at once and then regularly.
func (h *host) sweepTokens(ctx context.Context) {
	tick := time.NewTicker(token.SweepEvery)
	defer tick.Stop()
	for {
		if _, err := h.tokens.Sweep(ctx); err != nil && ctx.Err() == nil {
			h.logger.Warn("sweep tokens", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
