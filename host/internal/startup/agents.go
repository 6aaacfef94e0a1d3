package startup

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// openAgents makes the agent service and, at the first start, the root
// credential. It keeps the times of last use stored until the host stops.
func (h *host) openAgents(ctx context.Context, undo *closers) error {
	gone := isGone(h.dir.agentKey())
	key, err := agent.LoadHostKey(h.dir.agentKey())
	if err != nil {
		return err
	}
	h.agents, err = agent.NewService(ctx, h.store.Agents(), agent.Options{
		Key: key, RootFile: h.dir.rootCredential(), Publisher: h.publisher(), Now: h.tokens.Now,
	})
	if err != nil {
		return err
	}
	if gone {
		enrolled, err := h.agents.List(ctx, agent.Filter{Limit: 1})
		if err != nil {
			return err
		}
		if enrolled.Total > 0 {
			h.rekeyed(h.dir.agentKey(), "no agent's key of before is accepted any more")
		}
	}
	wrong, err := h.agents.EnsureRoot(ctx)
	if err != nil {
		return err
	}
	if wrong != nil {
		h.logger.Warn("the root credential is not as it should be", "error", wrong, "remedy", sdk.FromError(wrong).Remedy)
	}
	flushes, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until nobody calls any more
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.flushAgents(flushes)
	}()
	undo.add(func() error {
		cancel()
		<-done
		return h.agents.Flush(context.WithoutCancel(ctx))
	})
	return nil
}

// agentRevoked says whether an agent was revoked. Nobody asks before there are agents.
func (h *host) agentRevoked(name string) bool { return h.agents.Stands(name) == agent.StateRevoked }

// tokenHolder says what has become of an agent that tokens are issued to.
func (h *host) tokenHolder(name string) token.Holder {
	switch h.agents.Stands(name) {
	case agent.StateRevoked:
		return token.HolderRevoked
	case agent.StateExpired:
		return token.HolderExpired
	default:
		return token.HolderLives
	}
}

// endForfeited ends the tokens of revoked agents and takes back their claims, of which
// some live on where a host ended while it revoked one. The tokens are refused all the
// same; what was issued from them to others is not.
func (h *host) endForfeited(ctx context.Context) {
	ends, err := h.store.Agents().Ends(ctx)
	for _, end := range ends {
		if err == nil && end.Revoked {
			err = h.forfeit(ctx, end.Name)
		}
	}
	if err != nil && ctx.Err() == nil {
		h.logger.Warn("end what revoked agents hold", "error", err)
	}
}

func (h *host) forfeit(ctx context.Context, name string) error {
	a, err := h.agents.Get(ctx, name)
	if err != nil {
		return err
	}
	if _, err = h.tokens.RevokeHeld(ctx, name, actorHost, nexus.ForfeitReason(a)); err != nil {
		return err
	}
	_, err = h.tasks.TakeBack(ctx, name, actorHost, nexus.ForfeitReason(a))
	return err
}

func (h *host) flushAgents(ctx context.Context) {
	tick := time.NewTicker(agent.FlushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := h.agents.Flush(ctx); err != nil && ctx.Err() == nil {
				h.logger.Warn("store when agents were used", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// accessProblems says what is not as it should be with who may call and how, one
// sentence each.
func (h *host) accessProblems(ctx context.Context) []string {
	reasons := h.gate.problems()
	if err := h.agents.CheckRoot(ctx, nil); err != nil {
		e := sdk.FromError(err)
		reasons = append(reasons, e.Message+"; "+e.Remedy)
	}
	return reasons
}
