package token

import (
	"context"
	"time"
)

// CheckChild says whether IssueChild would issue, and changes nothing.
func (s *Service) CheckChild(ctx context.Context, text string, holder Request, spec Spec) error {
	parent, err := s.parent(ctx, text, holder)
	if err != nil {
		return told(ctx, err)
	}
	now := s.clock.now()
	if err := s.usable(parent, now); err != nil {
		return told(ctx, s.settle(ctx, parent, now, err))
	}
	if err := parent.At(now).narrow(&spec, now); err != nil {
		return err
	}
	if spec.MaxUses > parent.Remaining() {
		return wider("max_uses")
	}
	return s.mayHold(spec.Requester)
}

// CheckConsume says whether Consume would take a use, and takes none: it
// returns the token as it is. What the idempotency key was used for is not
// looked at.
func (s *Service) CheckConsume(ctx context.Context, text string, req Request) (*Token, error) {
	req.NamedOnly = false
	if err := checkUseKey(req.Key); err != nil {
		return nil, err
	}
	t, err := s.admit(ctx, text, req.Source)
	if err == nil {
		err = t.permits(&req)
	}
	if err != nil {
		return nil, told(ctx, err)
	}
	now := s.clock.now()
	if err := s.usable(t, now); err != nil {
		return nil, told(ctx, s.settle(ctx, t, now, err))
	}
	return t.At(now), nil
}

// CheckRenew says whether Renew would renew, and changes nothing: it returns
// the token as it would be.
func (s *Service) CheckRenew(ctx context.Context, ref string, ttl time.Duration) (*Token, error) {
	t, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if t.State.Terminal() {
		return nil, t.ended()
	}
	return t, t.extend(ttl, (*s.limits.Load())[t.Type].TTL, s.clock.now())
}

// CheckRevoke says whether Revoke would revoke, and changes nothing: it returns
// the token as it is.
func (s *Service) CheckRevoke(ctx context.Context, ref, why string) (*Token, error) {
	if err := checkReason(why); err != nil {
		return nil, err
	}
	t, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if t.State.Terminal() && t.State != StateRevoked {
		return nil, t.ended()
	}
	return t, nil
}
