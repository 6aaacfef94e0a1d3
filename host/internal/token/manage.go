package token

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Get returns the token that ref names, with its history: by its accessor, its
// id, or a beginning of the id that no other shares.
func (s *Service) Get(ctx context.Context, ref string) (*Token, error) {
	t, err := s.store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	now := s.clock.now()
	if t.lapsed(now) {
		s.remember(ctx, t.ExpiresAt)
	}
	return t.At(now), nil
}

// List returns one page of the tokens that pass the filter, latest first.
func (s *Service) List(ctx context.Context, filter Filter) (Page, error) {
	filter.At = s.clock.now()
	page, err := s.store.List(ctx, filter)
	seen := filter.At.Add(-markEvery) // what is left out since it has expired is not known
	for i, t := range page.Tokens {
		if t.lapsed(filter.At) && t.ExpiresAt.After(seen) {
			seen = t.ExpiresAt
		}
		page.Tokens[i] = t.At(filter.At)
	}
	s.remember(ctx, seen)
	return page, err
}

// remember has the store know that a time has come before somebody is told what it
// has brought, so that a clock that is set back brings nothing back. A store that
// takes no writes says so where it is asked, and is read all the same: nothing that
// it holds can be used meanwhile.
func (s *Service) remember(ctx context.Context, at time.Time) {
	if s.marked.reached(at) {
		return
	}
	var told time.Time
	err := s.update(ctx, func(tx Tx, now time.Time) (written, error) {
		told = now
		return written{}, tx.SetClock(ctx, now)
	})
	if err == nil {
		s.marked.raise(told)
	}
}

// Renew gives a token that lives a new life of ttl from now, or of what is usual
// for its type when that is 0, within its greatest life. It never shortens one.
func (s *Service) Renew(ctx context.Context, ref string, ttl time.Duration, by, why string) (*Token, error) {
	var t *Token
	var refused error
	err := s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		if t, err = tx.Get(ctx, ref); err != nil {
			return w, err
		}
		if t.lapsed(now) {
			refused = t.ended()
			return w, expire(ctx, tx, &w, t, now)
		}
		if t.State.Terminal() {
			return w, t.ended()
		}
		if err := t.extend(ttl, (*s.limits.Load())[t.Type].TTL, now); err != nil {
			return w, err
		}
		if why == "" {
			why = "renewed"
		}
		change := t.note(Renewed, by, why+", until "+t.ExpiresAt.UTC().Format(time.RFC3339), now)
		w.add(t, change)
		return w, tx.Put(ctx, []*Token{t}, []Change{change})
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, t.ID)
}

// extend sets a later end.
func (t *Token) extend(ttl, usual time.Duration, now time.Time) error {
	end := maxTime(now, t.NotBefore).Add(ttl)
	if ttl == 0 {
		if end = end.Add(usual); end.After(t.Deadline()) {
			end = t.Deadline()
		}
	}
	switch {
	case ttl < 0:
		return invalid("ttl", "a life is not negative").WithRemedy("give a time such as 1h")
	case end.After(t.Deadline()):
		return sdk.Errorf(codes.FailedPrecondition, "TOKEN_MAX_LIFE", "token %s lives until %s at most", t.Accessor, t.Deadline().UTC().Format(time.RFC3339)).
			WithRemedy("ask for less, or issue another token")
	case !end.After(t.ExpiresAt):
		return sdk.Errorf(codes.FailedPrecondition, "TOKEN_MAX_LIFE", "token %s lives until %s already", t.Accessor, t.ExpiresAt.UTC().Format(time.RFC3339)).
			WithRemedy("renew it later or for longer, or issue another token")
	}
	t.ExpiresAt = end
	return nil
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ended says that nothing can be done with the token any more.
func (t *Token) ended() error {
	state := t.State
	if !state.Terminal() {
		state = StateExpired
	}
	return sdk.Errorf(codes.FailedPrecondition, "TOKEN_ENDED", "token %s is %s", t.Accessor, state).
		WithRemedy("a token that has ended stays ended; issue another")
}

// Revoke ends a token and all that was issued from it, at once. The number says
// how many were ended. A token that has ended keeps its state; that it had been
// revoked before is no error.
func (s *Service) Revoke(ctx context.Context, ref, by, why string) (*Token, int, error) {
	if err := checkReason(why); err != nil {
		return nil, 0, err
	}
	if why == "" {
		why = "revoked"
	}
	var root *Token
	revoked := 0
	err := s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		if root, err = tx.Get(ctx, ref); err != nil {
			return w, err
		}
		before := root.State
		if revoked, err = revokeTree(ctx, tx, &w, root, by, why, now); err != nil {
			return w, err
		}
		if revoked == 0 && before.Terminal() && before != StateRevoked {
			return w, root.ended()
		}
		return w, nil
	})
	if err != nil {
		return nil, 0, err
	}
	t, err := s.Get(ctx, root.ID)
	return t, revoked, err
}

func checkReason(why string) error {
	if len(why) > maxText {
		return invalid("reason", "the reason is longer than %d bytes", maxText).WithRemedy("say it in fewer words")
	}
	return nil
}

// revokeTree ends what lives of a token and its descendants.
func revokeTree(ctx context.Context, tx Tx, w *written, root *Token, by, why string, now time.Time) (int, error) {
	tree, err := tx.Descendants(ctx, root.ID)
	if err != nil {
		return 0, err
	}
	revoked := 0
	inherited := fmt.Sprintf("its ancestor %s was revoked: %s", root.Accessor, why)
	var changed []*Token
	var changes []Change
	for i, t := range append([]*Token{root}, tree...) {
		if t.State.Terminal() {
			continue
		}
		reason := why
		if i > 0 {
			reason = inherited
		}
		change, err := t.end(by, reason, now)
		if err != nil {
			return 0, err
		}
		if change.Action == Revoked {
			revoked++
		}
		w.add(t, change)
		changed, changes = append(changed, t), append(changes, change)
	}
	return revoked, tx.Put(ctx, changed, changes)
}

// end revokes a token, or says that it had expired before.
func (t *Token) end(by, why string, now time.Time) (Change, error) {
	if t.lapsed(now) {
		return t.expire(now)
	}
	return t.move(StateRevoked, Revoked, by, why, now)
}
