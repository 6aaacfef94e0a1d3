package token

import (
	"context"
	"time"
)

// SweepEvery is how often a host should call [Service.Sweep].
const SweepEvery = 30 * time.Second

// batch is how many tokens or answers one transaction of a sweep touches, so
// that it holds nobody up.
const batch = 500

// Sweep records what the time has brought: tokens that have expired or become
// active, answers that are no longer kept, and the time itself. Nothing depends
// on when it runs. It returns how many tokens have changed.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	total := 0
	for {
		n, err := s.sweepSome(ctx)
		total += n
		if err != nil || n < batch {
			return total, err
		}
	}
}

func (s *Service) sweepSome(ctx context.Context) (n int, err error) {
	err = s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		due, err := tx.Due(ctx, now, batch)
		if err != nil {
			return w, err
		}
		n = len(due)
		for _, t := range due {
			step := t.activate
			if t.lapsed(now) {
				step = t.expire
			}
			change, err := step(now)
			if err != nil {
				return w, err
			}
			w.add(t, change)
		}
		if err := tx.Put(ctx, w.tokens, w.changes); err != nil {
			return w, err
		}
		if err := tx.ForgetAnswers(ctx, now.Add(-AnswerLife), batch); err != nil {
			return w, err
		}
		return w, tx.SetClock(ctx, now)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
