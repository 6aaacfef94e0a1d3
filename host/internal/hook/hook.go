// Package hook runs what is to be run for events: operations of protocols, for
// engines that learn from what happens, and plugins.
//
// Each hook has a place in the log of events, which outlives the host: what
// happens while nobody is there to be told is told later, in order. A call that
// was interrupted is made again, so that an event may be told twice, under the
// same revision.
package hook

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/sdk"
)

// A Hook says what is run, and for which events.
type Hook struct {
	Name string
	// On are kinds: "task.failed", or "task." for all that begin so.
	On                  []string
	Protocol, Operation string
	Plugin              string        // id, where a plugin is run and no protocol called
	Owner               string        // only events whose attribute "owner" is this; empty: all
	Timeout             time.Duration // of one call
}

func (h *Hook) wants(e *event.Record) bool {
	if h.Owner != "" && e.Attributes["owner"] != h.Owner {
		return false
	}
	return slices.ContainsFunc(h.On, func(on string) bool {
		return on == e.Kind || strings.HasSuffix(on, ".") && strings.HasPrefix(e.Kind, on)
	})
}

func (h *Hook) same(other *Hook) bool {
	return h.Name == other.Name && slices.Equal(h.On, other.On) && h.Protocol == other.Protocol && h.Operation == other.Operation &&
		h.Plugin == other.Plugin && h.Owner == other.Owner && h.Timeout == other.Timeout
}

// Events is the log that hooks follow.
type Events interface {
	// Bounds returns the earliest and the latest revision that are kept.
	Bounds(ctx context.Context) (first, last int64, err error)
	// After returns at most limit events after a revision, in order.
	After(ctx context.Context, revision int64, limit int) ([]*event.Record, error)
	// Changed returns a channel that is closed when there are more.
	Changed() <-chan struct{}
}

// Places remembers how far hooks have come.
type Places interface {
	// Place returns the revision of the last event that a hook was told of or
	// passed; found is false for a hook that nobody has heard of.
	Place(ctx context.Context, hook string) (revision int64, found bool, err error)
	SetPlace(ctx context.Context, hook string, revision int64) error
}

// Options are what a Service works with. All but Held and Logger are needed.
type Options struct {
	Events Events
	Places Places
	// Call tells a hook of one event. An error with Retryable set is tried again.
	Call func(ctx context.Context, h *Hook, e *event.Record) error
	// Held says whether no hook is told of anything for now, as after an emergency
	// stop. changed is closed when that may be otherwise.
	Held   func() (held bool, changed <-chan struct{})
	Logger hclog.Logger
}

const (
	batch = 256
	// attempts is how often a call is tried whose error says that it may be;
	// firstPause doubles between them.
	attempts   = 5
	firstPause = time.Second
	// storeRetry is how long to wait for a log that cannot be read.
	storeRetry = 5 * time.Second
)

// Service runs hooks, each by itself: one that is slow holds up no other.
type Service struct {
	opt Options

	mu      sync.Mutex
	running map[string]*run
	ctx     context.Context //nolint:containedctx // the life of the service
	end     context.CancelFunc
}

type run struct {
	hook Hook
	end  context.CancelFunc
	done chan struct{}
}

// New returns a service without hooks, whose hooks end with ctx. It must be closed.
func New(ctx context.Context, opt Options) *Service {
	if opt.Logger == nil {
		opt.Logger = hclog.NewNullLogger()
	}
	if opt.Held == nil {
		opt.Held = func() (bool, <-chan struct{}) { return false, nil }
	}
	s := &Service{opt: opt, running: make(map[string]*run)}
	s.ctx, s.end = context.WithCancel(ctx)
	return s
}

// Set puts hooks in place of those that there were; those that stay the same go on.
// A hook that is new is told of what happens from now on.
func (s *Service) Set(hooks []Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	for name, r := range s.running {
		if !slices.ContainsFunc(hooks, func(h Hook) bool { return h.same(&r.hook) }) {
			r.end()
			<-r.done
			delete(s.running, name)
		}
	}
	for _, h := range hooks {
		if s.running[h.Name] != nil {
			continue
		}
		ctx, end := context.WithCancel(s.ctx)
		r := &run{hook: h, end: end, done: make(chan struct{})}
		s.running[h.Name] = r
		go func() {
			defer close(r.done)
			s.follow(ctx, &r.hook)
		}()
	}
}

// Close ends all hooks, and the calls that they make.
func (s *Service) Close() error {
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		<-r.done
	}
	return nil
}

// follow tells a hook of what happens until ctx is done.
func (s *Service) follow(ctx context.Context, h *Hook) {
	at, ok := s.place(ctx, h)
	if !ok {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeRetry)
		defer cancel()
		s.keep(ctx, h, at)
	}()
	for ctx.Err() == nil {
		changed := s.opt.Events.Changed()
		events, err := s.opt.Events.After(ctx, at, batch)
		if err != nil {
			s.troubled(ctx, h, "read the events for a hook", err)
			pause(ctx, storeRetry)
			continue
		}
		if len(events) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if events[0].Revision > at+1 {
			s.opt.Logger.Warn("events are gone that a hook was not told of", "hook", h.Name, "events", events[0].Revision-at-1)
		}
		at = s.tell(ctx, h, at, events)
	}
}

// place is from where on a hook is told. A new one begins with what comes next.
func (s *Service) place(ctx context.Context, h *Hook) (at int64, ok bool) {
	for ctx.Err() == nil {
		at, found, err := s.opt.Places.Place(ctx, h.Name)
		if err == nil && !found {
			if _, at, err = s.opt.Events.Bounds(ctx); err == nil {
				err = s.opt.Places.SetPlace(ctx, h.Name, at)
			}
		}
		if err == nil {
			return at, true
		}
		s.troubled(ctx, h, "find the place of a hook", err)
		pause(ctx, storeRetry)
	}
	return 0, false
}

// keep remembers how far a hook has come.
func (s *Service) keep(ctx context.Context, h *Hook, at int64) {
	if err := s.opt.Places.SetPlace(ctx, h.Name, at); err != nil {
		s.troubled(ctx, h, "keep the place of a hook; it may be told again", err)
	}
}

// tell goes through events, and returns how far it has come.
func (s *Service) tell(ctx context.Context, h *Hook, at int64, events []*event.Record) int64 {
	told := at
	for _, e := range events {
		if h.wants(e) {
			if !s.call(ctx, h, e) {
				break
			}
			told = e.Revision
			s.keep(ctx, h, told)
		}
		at = e.Revision
	}
	// What a hook passes over costs a write for each batch, not for each event.
	if at > told+batch/2 {
		s.keep(ctx, h, at)
	}
	return at
}

// call tells a hook of one event; false says that ctx was done before it was told.
func (s *Service) call(ctx context.Context, h *Hook, e *event.Record) bool {
	wait := firstPause
	for n := 1; ; n++ {
		if !s.released(ctx) {
			return false
		}
		err := s.once(ctx, h, e)
		if ctx.Err() != nil && err != nil {
			return false
		}
		if err == nil {
			return true
		}
		if held, _ := s.opt.Held(); held { // which is why, and no fault of the hook
			n = 0
			continue
		}
		if !sdk.FromError(err).Retryable || n == attempts {
			s.opt.Logger.Warn("a hook was not told of an event", "hook", h.Name, "event", e.Revision, "kind", e.Kind, "attempts", n, "error", err)
			return true
		}
		pause(ctx, wait)
		wait *= 2
	}
}

// released waits until hooks are told of what happens; false says that ctx was done
// before.
func (s *Service) released(ctx context.Context) bool {
	for {
		held, changed := s.opt.Held()
		if !held {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *Service) once(ctx context.Context, h *Hook, e *event.Record) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	return s.opt.Call(ctx, h, e)
}

func (s *Service) troubled(ctx context.Context, h *Hook, what string, err error) {
	if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		s.opt.Logger.Error(what, "hook", h.Name, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
