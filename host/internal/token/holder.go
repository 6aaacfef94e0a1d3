package token

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// The tokens of an agent end with it. From the moment in which it is revoked or has
// expired none of them is accepted and none is issued to it, whatever is stored of
// them. An agent that has expired may be given a new life, and its tokens are accepted
// again then, as far as their own life goes; those of one that was revoked are ended by
// [Service.RevokeHeld], with all that came from them.

// Holder is what has become of an agent that tokens are issued to.
type Holder uint8

// What becomes of agents.
const (
	HolderLives   Holder = iota
	HolderExpired        // until it is given a new life
	HolderRevoked        // for good
)

func (s *Service) holder(agent string) Holder {
	if s.opt.Holder == nil {
		return HolderLives
	}
	return s.opt.Holder(agent)
}

// barred refuses a token of an agent that has ended.
func (s *Service) barred(t *Token) error {
	switch s.holder(t.Requester) {
	case HolderRevoked:
		return t.denied(ReasonHolderRevoked, "was issued to %s, an agent that was revoked", t.Requester).WithRemedy("get a token for an agent that is not")
	case HolderExpired:
		return t.denied(ReasonHolderExpired, "was issued to %s, an agent that has expired", t.Requester).WithRemedy(renewHolder, t.Requester)
	default:
		return nil
	}
}

// usable says why the token cannot be used at a time.
func (s *Service) usable(t *Token, now time.Time) error {
	if err := t.usable(now); err != nil {
		return err
	}
	return s.barred(t)
}

// mayHold refuses to issue a token to an agent that has ended.
func (s *Service) mayHold(agent string) error {
	switch s.holder(agent) {
	case HolderRevoked:
		return sdk.Errorf(codes.FailedPrecondition, ReasonHolderRevoked, "agent %s was revoked and can hold no token", agent).
			WithRemedy("issue it to an agent that is not")
	case HolderExpired:
		return sdk.Errorf(codes.FailedPrecondition, ReasonHolderExpired, "agent %s has expired and can hold no token", agent).
			WithRemedy(renewHolder, agent)
	default:
		return nil
	}
}

// renewHolder is what to do about an agent that has expired.
const renewHolder = "give the agent a new life with: sop agent rotate %s --ttl"

// How many tokens one look of RevokeHeld finds, and how many of them one transaction
// ends, so that it holds nobody up.
const (
	heldLook  = 10_000
	heldBatch = 100
)

// RevokeHeld ends the tokens that an agent holds and all that was issued from what it
// holds or has held, and returns how many that were. Tokens that it has issued to others
// otherwise stay. With an error, some may live on; it can be called again.
func (s *Service) RevokeHeld(ctx context.Context, agent, by, why string) (int, error) {
	// Whatever was issued to the agent before it was revoked is in the store when this
	// has had its turn.
	if err := s.update(ctx, func(Tx, time.Time) (written, error) { return written{}, nil }); err != nil {
		return 0, err
	}
	total := 0
	for {
		held, err := s.store.Held(ctx, agent, heldLook)
		if err != nil || len(held) == 0 {
			return total, err
		}
		for batch := range slices.Chunk(held, heldBatch) {
			n, err := s.revokeAll(ctx, batch, by, why)
			total += n
			if err != nil {
				return total, err
			}
		}
	}
}

// revokeAll ends those of some tokens that live.
func (s *Service) revokeAll(ctx context.Context, accessors []string, by, why string) (n int, err error) {
	err = s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		n = 0
		for _, accessor := range accessors {
			t, err := tx.Find(ctx, accessor)
			if err != nil {
				return w, err
			}
			if t == nil || t.State.Terminal() {
				continue
			}
			change, err := t.end(by, why, now)
			if err != nil {
				return w, err
			}
			if change.Action == Revoked {
				n++
			}
			w.add(t, change)
		}
		return w, tx.Put(ctx, w.tokens, w.changes)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
