package component

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// use makes the unit stay up, and come up where it is on demand.
func (u *unit) use() { u.change(func() { u.users++ }) }

// leave ends what use began. An on-demand one that nobody uses stays for its
// idle_stop.
func (u *unit) leave() {
	u.change(func() {
		if u.users--; u.users == 0 {
			u.idleAt = time.Now().Add(u.spec.IdleStop)
		}
	})
}

// Need returns when the component of that name is ready, which it makes happen
// where the component is on demand. It waits while the component starts, restarts
// or stops: what it returns for is never an instance that is on its way down. The
// caller calls release, once, when it needs the component no more; nil with an
// error. by is who needs it, as it is shown to who would stop the component.
func (s *Supervisor) Need(ctx context.Context, name, by string) (release func(), err error) {
	u := s.unit(name)
	if u == nil {
		return nil, unknown(name)
	}
	u.use()
	for {
		changed := s.changed.Wait()
		if err := s.opt.Halted(); err != nil {
			u.leave()
			return nil, err
		}
		if u.ready() {
			u.neededBy(by, 1)
			return sync.OnceFunc(func() { u.neededBy(by, -1); u.leave() }), nil
		}
		if err := u.hopeless(); err != nil {
			u.leave()
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err := u.notReady(ctx.Err())
			u.leave()
			return nil, err
		}
	}
}

// neededBy counts who needs the unit by name.
func (u *unit) neededBy(by string, more int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.needs[by] += more; u.needs[by] == 0 {
		delete(u.needs, by)
	}
}

// Gone says why a component does not become ready by waiting; nil when it is, or
// may.
func (s *Supervisor) Gone(name string) error {
	u := s.unit(name)
	if u == nil {
		return unknown(name)
	}
	return u.hopeless()
}

// hopeless says why waiting will not make it ready; nil when it may.
func (u *unit) hopeless() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.removed:
		return unknown(u.name)
	case u.held:
		return sdk.Errorf(codes.Unavailable, ReasonStopped, "component %s was stopped by an operator", u.name).
			WithRemedy("`sop component start %s`", u.name)
	case u.state == StateFailed || u.state == StateCompleted:
		e := sdk.Errorf(codes.Unavailable, ReasonFailed, "component %s is %s", u.name, u.state).
			WithRemedy("see `sop component show %s`", u.name)
		if u.lastErr != nil {
			e.Message, e.Cause = e.Message+": "+u.lastErr.Message, u.lastErr
		}
		return e
	}
	if name := u.blockedByFailureLocked(); name != "" {
		return sdk.Errorf(codes.Unavailable, ReasonFailed, "component %s waits for %s, which is not on its way", u.name, name).
			WithRemedy("see `sop component show %s`", name)
	}
	return nil
}

// notReady says that it was not ready in time, and how it stands.
func (u *unit) notReady(cause error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := &sdk.Error{
		Code: codes.Unavailable, Reason: ReasonNotReady, Retryable: true, Cause: cause,
		Message: "component " + u.name + " was not ready in time: it is " + string(u.state),
		Remedy:  "see `sop component show " + u.name + "`",
	}
	if u.detail != "" {
		e.Message += ", " + u.detail
	}
	return e
}
