package startup

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/config"
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
