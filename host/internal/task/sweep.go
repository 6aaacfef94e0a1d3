package task

import (
	"context"
	"fmt"
	"time"
)

// batch is how many tasks one transaction of a sweep touches, so that it holds
// nobody up.
const batch = 200

// idle is how long a sweeper waits at most: what depends on more than this
// process does (a protocol that has come up) is looked at then.
const idle = 30 * time.Second

// Run returns lost leases, as soon as they end, and opens what is not blocked any
// more, until ctx is done. onError is told what went wrong; it is tried again.
func (s *Service) Run(ctx context.Context, onError func(error)) {
	var looked time.Time
	for ctx.Err() == nil {
		wait, err := s.sweep(ctx, &looked)
		if err != nil && ctx.Err() == nil {
			onError(err)
			wait = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.kick:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// sweep does what the time has brought and says how long to wait. looked is when
// blocked tasks were last looked at.
func (s *Service) sweep(ctx context.Context, looked *time.Time) (time.Duration, error) {
	if _, err := s.takeBackAll(ctx); err != nil {
		return 0, err
	}
	if now := s.now(); s.anew.Swap(false) || now.Sub(*looked) >= idle {
		*looked = now
		if _, err := s.unblockAll(ctx); err != nil {
			return 0, err
		}
	}
	next, some, err := s.store.NextLost(ctx)
	if err != nil || !some {
		return idle, err
	}
	return min(max(next.Sub(s.now()), 0), idle), nil
}

// Sweep takes back leases that have ended and opens what is not blocked any more.
// It returns how many tasks have changed.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	n, err := s.takeBackAll(ctx)
	if err != nil {
		return n, err
	}
	opened, err := s.unblockAll(ctx)
	return n + opened, err
}

// takeBackAll takes back all leases that have ended.
func (s *Service) takeBackAll(ctx context.Context) (total int, err error) {
	for {
		next, some, err := s.store.NextLost(ctx)
		if err != nil || !some || next.After(s.now()) {
			return total, err
		}
		n, err := s.takeBack(ctx)
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

// takeBack takes back leases that have ended.
func (s *Service) takeBack(ctx context.Context) (n int, err error) {
	err = s.update(ctx, func(w *work) error {
		lost, err := w.Lost(ctx, w.now, batch)
		if err != nil {
			return err
		}
		n = len(lost)
		for _, t := range lost {
			why := fmt.Sprintf("the lease of %s ended at %s", t.Holder, t.LeaseUntil.Format(time.RFC3339))
			if err := w.lose(ctx, t, "clock", why); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// lose takes a held task back to where it was claimed. One that was tried as often
// as it may be is dead.
func (w *work) lose(ctx context.Context, t *Task, by, why string) error {
	to := t.State.fallback()
	if to == StateReady && t.Attempts >= t.MaxAttempts {
		to, why = StateDead, fmt.Sprintf("%s (attempt %d of %d)", why, t.Attempts, t.MaxAttempts)
	}
	if to == StateReady || to == StateDead {
		t.Feedback = why
	}
	c, err := t.move(to, ActionLost, by, why, w.now)
	if err != nil {
		return err
	}
	return w.put(ctx, t, c)
}

// maxInterruptions is how often the host may end at the same task before the task
// is taken for the cause.
const maxInterruptions = 10

// interrupt takes back what the host held when it ended. The attempt does not
// count.
func (w *work) interrupt(ctx context.Context, t *Task) error {
	why := "the host has started anew"
	if t.State.fallback() == StateReady {
		t.Interruptions++
		if t.Interruptions < maxInterruptions {
			t.Attempts = max(0, t.Attempts-1)
		} else {
			why = fmt.Sprintf("the host ended %d times while it was worked on", t.Interruptions)
			t.Attempts = t.MaxAttempts
		}
	}
	return w.lose(ctx, t, HostClaimant, why)
}

// Recover takes back what the host itself held when it ended: whoever worked on it
// is gone. It returns how many tasks that were.
func (s *Service) Recover(ctx context.Context) (int, error) {
	return s.takeFrom(ctx, HostClaimant, func(w *work, t *Task) error { return w.interrupt(ctx, t) })
}

// TakeBack takes back what somebody holds who is not to work any more. The attempts
// do not count. It returns how many tasks that were.
func (s *Service) TakeBack(ctx context.Context, holder, by, why string) (int, error) {
	return s.takeFrom(ctx, holder, func(w *work, t *Task) error {
		if t.State.fallback() == StateReady {
			t.Attempts = max(0, t.Attempts-1)
		}
		return w.lose(ctx, t, by, clipText(why, maxWhy))
	})
}

// takeFrom takes back all that somebody holds, in one transaction.
func (s *Service) takeFrom(ctx context.Context, holder string, take func(*work, *Task) error) (n int, err error) {
	err = s.update(ctx, func(w *work) error {
		held, err := w.HeldBy(ctx, holder)
		if err != nil {
			return err
		}
		n = len(held)
		for _, t := range held {
			if err := take(w, t); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// unblock opens what waited for a task that is done now.
func (w *work) unblock(ctx context.Context, on string) error {
	blocked, err := w.Blocked(ctx, on, batch)
	if err != nil {
		return err
	}
	_, err = w.open(ctx, blocked)
	return err
}

// open makes blocked tasks ready that nothing keeps any more.
func (w *work) open(ctx context.Context, blocked []*Task) (n int, err error) {
	for _, t := range blocked {
		reason, err := w.blockedBy(ctx, t)
		if err != nil {
			return n, err
		}
		if reason != "" {
			continue
		}
		c, err := t.move(StateReady, ActionOpened, "clock", "what it waited for is there", w.now)
		if err != nil {
			return n, err
		}
		if err := w.put(ctx, t, c); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// unblockAll opens all that is not blocked any more.
func (s *Service) unblockAll(ctx context.Context) (n int, err error) {
	counts, err := s.store.Counts(ctx)
	if err != nil {
		return 0, err
	}
	some := false
	for _, c := range counts {
		some = some || c.State == StateBlocked
	}
	if !some {
		return 0, nil
	}
	err = s.update(ctx, func(w *work) error {
		blocked, err := w.Blocked(ctx, "", batch)
		if err != nil {
			return err
		}
		n, err = w.open(ctx, blocked)
		return err
	})
	return n, err
}
