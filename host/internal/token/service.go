package token

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/sop-host/sop/host/internal/secret"
)

// Publisher takes the package's event, [Changed]. It must not block; *event.Bus
// is one.
type Publisher interface {
	Publish(event any)
}

// Changed says, after the commit, what happened to tokens: one event for each
// transaction. It is shared by all subscribers and not to be changed.
type Changed struct{ Changes []Change }

// Options say how a Service works. The zero value of each but Key is fine.
type Options struct {
	Key       Key
	Limits    map[Type]Limits  // nil: [DefaultLimits]; see SetLimits
	Publisher Publisher        // nil: nobody is told
	Now       func() time.Time // nil: time.Now
	Cached    int              // how many tokens are kept in memory; 0: 100000
	// Holder says what has become of an agent; nil: all live. It reads memory only.
	Holder func(agent string) Holder
}

// Service is what agents, operators and other features do with tokens. It
// decides nothing about permission: nexus has done so. All methods are safe for
// concurrent use. It is the only writer of its store: another host on the same
// database would not see in its memory what this one revokes.
type Service struct {
	store  Store
	opt    Options
	clock  *clock
	cache  *cache
	guard  *secret.Guard
	marked marked
	limits atomic.Pointer[map[Type]Limits]
}

// NewService returns a Service that goes on from the time that its store knows.
func NewService(ctx context.Context, store Store, opt Options) (*Service, error) {
	if !opt.Key.Valid() {
		return nil, errors.New("token service: no key")
	}
	if opt.Limits == nil {
		opt.Limits = DefaultLimits()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Cached == 0 {
		opt.Cached = 100_000
	}
	mark, err := store.Clock(ctx)
	if err != nil {
		return nil, err
	}
	s := &Service{store: store, opt: opt, clock: newClock(opt.Now, mark), cache: newCache(opt.Cached), guard: secret.NewGuard()}
	if !mark.IsZero() {
		s.marked.raise(mark)
	}
	s.SetLimits(opt.Limits)
	return s, nil
}

// Now is the time as the service tells it: it never goes back, neither while the
// host runs nor from one start to the next.
func (s *Service) Now() time.Time { return s.clock.now() }

// SetLimits replaces the limits for tokens that are issued or renewed from now
// on. Those that live keep what they were given.
func (s *Service) SetLimits(limits map[Type]Limits) {
	limits = maps.Clone(limits)
	s.limits.Store(&limits)
}

// written is what one transaction did.
type written struct {
	tokens  []*Token
	changes []Change
}

func (w *written) add(t *Token, changes ...Change) {
	w.tokens = append(w.tokens, t)
	w.changes = append(w.changes, changes...)
}

// update runs one transaction. The time that fn is given is taken inside of
// it, so that a token that expires while it waits is expired. After the commit
// the memory is up to date, and then the subscribers are told.
func (s *Service) update(ctx context.Context, fn func(tx Tx, now time.Time) (written, error)) error {
	var done written
	var now time.Time
	err := s.store.Update(ctx, func(tx Tx) (err error) {
		now = s.clock.now()
		if done, err = fn(tx, now); err != nil {
			return err
		}
		return s.marked.set(ctx, tx, now)
	})
	if err != nil {
		for _, t := range done.tokens {
			s.cache.drop(t.Accessor) // the commit may have happened
		}
		return err
	}
	s.marked.is(now)
	s.cache.wrote(done.tokens...)
	if s.opt.Publisher != nil && len(done.changes) > 0 {
		s.opt.Publisher.Publish(Changed{done.changes})
	}
	return nil
}
