package gap

import (
	"context"
	"time"
)

// CheckSuppress says whether Suppress would suppress, and changes nothing: it
// returns the gap as it would be.
func (s *Service) CheckSuppress(ctx context.Context, ref, by, reason string, until *time.Time) (*Gap, error) {
	now := time.Now().UTC()
	suppression, err := newSuppression(by, reason, until, now)
	if err != nil {
		return nil, err
	}
	return s.try(ctx, ref, func(g *Gap) (Change, error) { return g.suppress(suppression, now) })
}

// CheckAcknowledge says whether Acknowledge would acknowledge, and changes
// nothing: it returns the gap as it would be.
func (s *Service) CheckAcknowledge(ctx context.Context, ref, by, note string) (*Gap, error) {
	return s.tryMove(ctx, ref, StateAcknowledged, by, note)
}

// CheckReopen says whether Reopen would reopen, and changes nothing: it returns
// the gap as it would be.
func (s *Service) CheckReopen(ctx context.Context, ref, by, why string) (*Gap, error) {
	return s.tryMove(ctx, ref, StateOpen, by, why)
}

func (s *Service) tryMove(ctx context.Context, ref string, to State, by, why string) (*Gap, error) {
	return s.try(ctx, ref, func(g *Gap) (Change, error) { return g.move(to, by, oneLine(why, maxText), time.Now()) })
}

// try makes a transition on a copy.
func (s *Service) try(ctx context.Context, ref string, transition func(*Gap) (Change, error)) (*Gap, error) {
	g, err := s.store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	_, err = transition(g)
	return g, err
}
