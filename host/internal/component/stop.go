package component

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// takeDown stops the process of a unit.
func (u *unit) takeDown(i *instance) {
	u.mu.Lock()
	grace := u.spec.StopGrace
	u.mu.Unlock()
	u.enter(StateStopping, Event{Instance: i.number, Phase: PhaseStopping, PID: i.handle.PID})
	left := u.stopProcess(i, grace)
	exit := u.putAway(i, left)
	u.step(Event{Instance: i.number, Phase: PhaseStopped, Detail: "it " + exit.String()}, u.settleLocked)
	i.release()
}

// stopProcess asks the process and its group to end, and kills it after its
// grace. It returns what is left of the grace, for what the process started.
func (u *unit) stopProcess(i *instance, grace time.Duration) time.Duration {
	begin := time.Now()
	u.mu.Lock()
	sig := u.spec.StopSignal
	u.mu.Unlock()
	if unheard(i.handle.PID, sig) {
		sig = syscall.SIGKILL // as its first process, the signal would have ended any other
	}
	if err := i.handle.SignalGroup(sig); err != nil {
		u.s.logger.Warn("stop component", "component", u.name, "error", err)
	}
	if i.waitExit(grace) {
		return max(0, grace-time.Since(begin))
	}
	u.s.logger.Warn("component did not stop when asked; killed", "component", u.name, "signal", sig.String(), "grace", grace)
	if err := i.kill(); err != nil {
		u.s.logger.Error("kill component", "component", u.name, "error", err)
	}
	if !i.waitExit(killWait) {
		u.s.logger.Error("component still runs after SIGKILL", "component", u.name, "pid", i.handle.PID)
		<-i.exited // it cannot be put away before; the kernel owes us its end
	}
	return 0
}

// waitExit says whether the process exited within d.
func (i *instance) waitExit(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-i.exited:
		return true
	case <-timer.C:
		return i.ended()
	}
}

// unheard says whether the process is the first of a pid namespace and has no
// handler for a signal, which means nothing to it then.
func unheard(pid int, sig syscall.Signal) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	var first bool
	var caught, ignored uint64
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch name {
		case "NSpid":
			first = len(fields) > 1 && fields[len(fields)-1] == "1"
		case "SigCgt":
			caught, _ = strconv.ParseUint(fields[0], 16, 64)
		case "SigIgn":
			ignored, _ = strconv.ParseUint(fields[0], 16, 64)
		}
	}
	bit := uint64(1) << (uint(sig) - 1)
	return first && caught&bit == 0 && ignored&bit == 0
}

// remove makes the unit end for good.
func (u *unit) remove() { u.change(func() { u.removed = true }) }

// Stop stops a component until an operator starts it again, or the host is
// started anew. Running components that depend on it are stopped first where
// dependants says so, and who else needs it does without; where it does not, both
// are an error. It returns the names of those that were stopped first, in order,
// also with an error.
func (s *Supervisor) Stop(ctx context.Context, name string, dependants bool) (first []string, err error) {
	u := s.unit(name)
	if u == nil {
		return nil, unknown(name)
	}
	if err := s.CheckStop(name, dependants); err != nil {
		return nil, err
	}
	for _, other := range s.dependants(name) {
		before, err := s.Stop(ctx, other, true)
		if first = append(first, before...); err != nil {
			return first, err
		}
		first = append(first, other)
	}
	return first, s.keepDown(ctx, u)
}

// keepDown stops a unit until it is started again.
func (s *Supervisor) keepDown(ctx context.Context, u *unit) error {
	u.change(func() { u.held, u.idleAt, u.retryAt = true, time.Time{}, time.Time{} })
	return s.until(ctx, u, func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.instance != nil || u.endStart != nil {
			return false
		}
		u.toRestLocked(StateStopped)
		return true
	})
}

// CheckStop says what keeps a component from being stopped.
func (s *Supervisor) CheckStop(name string, dependants bool) error {
	u := s.unit(name)
	if u == nil {
		return unknown(name)
	}
	u.mu.Lock()
	names := slices.Sorted(maps.Keys(u.needs))
	u.mu.Unlock()
	if names = append(s.dependants(name), names...); len(names) > 0 && !dependants {
		return sdk.Errorf(codes.FailedPrecondition, ReasonNeeded, "component %s is needed by %s", name, strings.Join(names, ", ")).
			WithRemedy("stop these first, or let them do without it (--dependants): components that depend on it are stopped with it")
	}
	return nil
}

// StartOne starts a component that was stopped, has failed, has ended, or is
// idle, with a clean record, and returns when it is ready. One that was stopped
// stays so where what it depends on does not come.
func (s *Supervisor) StartOne(ctx context.Context, name string) error {
	u := s.unit(name)
	if u == nil {
		return unknown(name)
	}
	if err := s.opt.Halted(); err != nil {
		return err
	}
	var held bool
	u.change(func() {
		held = u.held
		u.freshLocked()
	})
	err := s.awaitUp(ctx, u)
	if err != nil && held && u.blocked() {
		err = errors.Join(err, s.keepDown(ctx, u))
	}
	return err
}

// freshLocked forgets all that keeps the unit from being started. u.mu is held.
func (u *unit) freshLocked() {
	u.held, u.retryAt, u.recovering = false, time.Time{}, false
	u.policy.Reset()
	u.fruitless = 0
	if u.instance == nil && u.endStart == nil {
		u.lastErr = nil
		u.setLocked(StateQueued, "")
		u.setLocked(u.restLocked(), "")
	}
	u.idleAt = time.Now().Add(u.spec.StartTimeout + u.spec.IdleStop)
}

// Restart stops the process of a component and starts another, and returns when
// that is ready. One without a process is started.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	u := s.unit(name)
	if u == nil {
		return unknown(name)
	}
	if err := s.opt.Halted(); err != nil {
		return err
	}
	u.change(func() {
		u.renew = u.instance != nil || u.endStart != nil
		u.freshLocked()
	})
	return s.awaitUp(ctx, u)
}

// awaitUp waits until the unit is ready, or will not be.
func (s *Supervisor) awaitUp(ctx context.Context, u *unit) error {
	var hopeless error
	err := s.until(ctx, u, func() bool {
		u.mu.Lock()
		up := (u.state == StateReady || u.state == StateCompleted && u.lastErr == nil) && !u.renew
		failed := u.lastErr
		if u.state != StateBackoff {
			failed = nil
		}
		u.mu.Unlock()
		if up {
			return true
		}
		if failed != nil { // it goes on by itself; who asked is told now
			hopeless = failed
		} else {
			hopeless = u.hopeless()
		}
		return hopeless != nil
	})
	if err != nil {
		return u.notReady(err)
	}
	return hopeless
}

// until waits until a condition holds.
func (s *Supervisor) until(ctx context.Context, u *unit, holds func() bool) error {
	for {
		changed := s.changed.Wait()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-u.done:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Halt kills every process of every component at once, without grace and without
// regard to their order, and keeps them down. It returns when all are dead, or
// ctx is done.
func (s *Supervisor) Halt(ctx context.Context) error {
	units := s.all()
	for _, u := range units {
		u.change(func() { u.halted = true })
	}
	var killed sync.WaitGroup
	for _, u := range units {
		killed.Go(func() { u.killNow() })
	}
	killed.Wait()
	for _, u := range units {
		err := s.until(ctx, u, func() bool {
			u.killNow() // one that was being started meanwhile
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.instance == nil && u.endStart == nil
		})
		if err != nil {
			return fmt.Errorf("component %s still runs: %w", u.name, err)
		}
	}
	return nil
}

// killNow kills the process of a unit, if it has one.
func (u *unit) killNow() {
	u.mu.Lock()
	i := u.instance
	u.mu.Unlock()
	if i == nil || i.ended() {
		return
	}
	if err := i.kill(); err != nil {
		u.s.logger.Error("kill component", "component", u.name, "error", err)
	}
}

// Release lets components start again that Halt stopped.
func (s *Supervisor) Release() {
	for _, u := range s.all() {
		u.change(func() {
			u.halted = false
			if !u.held {
				u.freshLocked()
				u.idleAt = time.Time{}
			}
		})
	}
}
