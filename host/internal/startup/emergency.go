package startup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/halt"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

func (d dataDir) emergency() string { return d.join("state", "emergency") }

// emergency stops everything at once. Its truth is the mark: what it finds set by
// somebody else, it carries out. It implements nexus.Emergency.
type emergency struct {
	host *host
	mark halt.Mark
	// ends holds what must end, registered by whoever runs something.
	ends []func(context.Context) error

	unmarked atomic.Pointer[halt.State] // from the moment a stop is asked for until it is marked
	own      atomic.Int32               // stops and ends that are being carried out, which the watch leaves alone

	mu     sync.Mutex // held while a stop or its end is carried out
	halted bool       // it has been carried out
}

// check says why nothing may be started and no token accepted; nil when all may.
func (e *emergency) check() error {
	if e.unmarked.Load() != nil {
		return halt.Stopped()
	}
	return e.mark.Check()
}

// stopped is the stop in force: what the mark says, or what is not marked yet. It is
// the caller's.
func (e *emergency) stopped() *halt.State {
	s := e.mark.Read()
	if unmarked := e.unmarked.Load(); s == nil && unmarked != nil {
		s = new(halt.State)
		*s = *unmarked
	}
	return s
}

// marked marks what is not marked yet.
func (e *emergency) marked() error {
	s := e.unmarked.Load()
	if s == nil {
		return nil
	}
	if err := e.mark.Set(*s); err != nil {
		return err
	}
	e.unmarked.Store(nil)
	return nil
}

// reserve keeps room for the next mark.
func (e *emergency) reserve() {
	if err := e.mark.Reserve(); err != nil {
		e.host.logger.Warn("an emergency stop may not be marked on a full disk", "error", err)
	}
}

// onHalt registers what an emergency stop must end. It is called while the host
// starts; end returns when nothing of it runs any more, or ctx is done.
func (h *host) onHalt(end func(context.Context) error) {
	e := h.emergency
	e.mu.Lock() // one that was marked meanwhile may be under way
	defer e.mu.Unlock()
	e.ends = append(e.ends, end)
}

const (
	// deadWithin bounds the wait for what an emergency stop kills.
	deadWithin = 2 * time.Second
	// settleWithin bounds what an emergency stop does to the store.
	settleWithin = 10 * time.Second
)

// openEmergency makes the emergency stop and watches its mark, so that one that
// was made without the host is carried out by it.
func (h *host) openEmergency(undo *closers) error {
	e := h.emergency
	e.ends = append(e.ends, func(ctx context.Context) error { return h.components.Halt(ctx) }, func(context.Context) error { h.pool.Kill(); return nil })
	if err := os.MkdirAll(e.mark.Dir, 0o700); err != nil {
		return err
	}
	e.reserve()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch for an emergency stop: %w", err)
	}
	if err := watcher.Add(e.mark.Dir); err != nil {
		return errors.Join(fmt.Errorf("watch for an emergency stop: %w", err), watcher.Close())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.watch(watcher)
	}()
	undo.add(func() error {
		err := watcher.Close()
		<-done
		return err
	})
	return nil
}

// watch carries out what the mark says, whoever set it.
func (e *emergency) watch(watcher *fsnotify.Watcher) {
	for {
		select {
		case _, ok := <-watcher.Events:
			if !ok {
				return
			}
			e.follow()
		case err, ok := <-watcher.Errors:
			if !ok {
				return
			}
			e.host.logger.Warn("watch for an emergency stop", "error", err)
		}
	}
}

// follow carries out a stop, or its end, that was made without the host.
func (e *emergency) follow() {
	if e.own.Load() > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadWithin+settleWithin)
	defer cancel()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch stopped := e.stopped() != nil; {
	case stopped && !e.halted:
		e.host.logger.Error("emergency stop, made without the host")
		for _, problem := range e.carryOut(ctx, time.Now(), &apiv1.EmergencyStopResponse{}) {
			e.host.logger.Error("emergency stop", "problem", problem)
		}
	case !stopped && e.halted:
		e.release(ctx)
	}
}

// begin takes over what was marked before the host started: it revokes what was
// given out before, and records what could not be recorded. Nothing runs yet, and no
// token is younger than the stop. With an error the host is not to start: it would
// accept tokens that the stop has ended.
func (e *emergency) begin(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.mark.Lifted(); s != nil {
		if _, err := e.settle(ctx, s); err != nil {
			return fmt.Errorf("revoke the tokens of before the emergency stop that was lifted: %w", err)
		}
		if e.record(ctx, s) == nil {
			e.recordLift(ctx, s)
		}
	}
	s := e.mark.Read()
	if s == nil {
		return nil
	}
	e.halted = true
	_, err := e.settle(ctx, s)
	if err := errors.Join(err, e.record(ctx, s)); err != nil { // tokens are refused, and it is done when the stop is lifted
		e.host.logger.Error("make up for an emergency stop", "error", err)
	}
	e.host.logger.Warn("stopped in an emergency; nothing is brought up before `sop resume`", "by", s.By, "at", s.At)
	return nil
}

// Stop implements nexus.Emergency.
func (e *emergency) Stop(ctx context.Context, by, reason string) (*apiv1.EmergencyStopResponse, error) {
	begin := time.Now()
	e.own.Add(1)
	defer e.own.Add(-1)
	// From here on tokens are refused and nothing is started: no disk is waited for.
	e.unmarked.CompareAndSwap(nil, &halt.State{At: begin.UTC(), By: by, Reason: reason})
	resp := &apiv1.EmergencyStopResponse{TokensRefusedAfter: durationpb.New(time.Since(begin))}
	err := e.marked()
	e.host.logger.Error("emergency stop", "by", by, "reason", reason)
	e.mu.Lock()
	defer e.mu.Unlock()
	resp.Problems = e.carryOut(ctx, begin, resp)
	if err != nil {
		return nil, sdk.Errorf(codes.Internal, "EMERGENCY_MARK", "everything was killed and stays so while this host runs, but the stop could not be marked: %w", err).
			WithRemedy("make room in the data directory and say it again: a host that is started before would start everything")
	}
	resp.State = e.State()
	return resp, nil
}

// carryOut kills what runs, revokes tokens and records the stop. e.mu is held.
func (e *emergency) carryOut(ctx context.Context, begin time.Time, resp *apiv1.EmergencyStopResponse) []string {
	for _, c := range e.host.components.Status() {
		if c.PID != 0 {
			resp.ComponentsKilled++
		}
	}
	e.halted = true
	problems := e.kill(ctx)
	resp.DeadAfter = durationpb.New(time.Since(begin))
	s := e.stopped()
	if s == nil {
		return problems
	}
	settling, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	revoked, err := e.settle(settling, s)
	resp.TokensRevoked = revoked
	if err != nil {
		problems = append(problems, "tokens are refused and could not all be revoked: "+sdk.FromError(err).Message)
	}
	if err := e.record(ctx, s); err != nil {
		problems = append(problems, "the stop could not be recorded; that is made up for: "+sdk.FromError(err).Message)
	}
	e.host.changed.Tell()
	return problems
}

// kill ends everything that was registered, side by side.
func (e *emergency) kill(ctx context.Context) (problems []string) {
	ctx, cancel := context.WithTimeout(ctx, deadWithin)
	defer cancel()
	var mu sync.Mutex
	var ending sync.WaitGroup
	for _, end := range e.ends {
		ending.Go(func() {
			if err := end(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, err.Error())
			}
		})
	}
	ending.Wait()
	return problems
}

// settle revokes every token. While the stop is in force none is issued.
func (e *emergency) settle(ctx context.Context, s *halt.State) (revoked int64, err error) {
	return e.host.revokeTokens(ctx, token.Filter{}, time.Time{}, s.By, "emergency stop by "+s.By)
}

// record puts the stop on record, once.
func (e *emergency) record(ctx context.Context, s *halt.State) error {
	if s.Recorded {
		return nil
	}
	err := e.host.audit.Append(ctx, audit.Record{
		Time: s.At, Actor: s.By, Action: "host.emergency_stop", Resource: "host", Outcome: audit.Success, Reason: s.Reason,
	})
	if err != nil {
		e.host.logger.Error("record the emergency stop", "error", err)
		return err
	}
	s.Recorded = true
	if s.Lifted != nil {
		return nil
	}
	if e.mark.Check() != nil {
		return e.mark.Update(s)
	}
	e.unmarked.Store(s)
	return e.marked()
}

// recordLift puts the end of a stop on record, and forgets it then.
func (e *emergency) recordLift(ctx context.Context, s *halt.State) {
	err := e.host.audit.Append(ctx, audit.Record{
		Time: s.Lifted.At, Actor: s.Lifted.By, Action: "host.resume", Resource: "host", Outcome: audit.Success, Reason: s.Lifted.Reason,
	})
	if err == nil {
		err = e.mark.Forget()
	}
	if err != nil {
		e.host.logger.Error("record the end of the emergency stop", "error", err)
	}
}

// Resume implements nexus.Emergency.
func (e *emergency) Resume(ctx context.Context, by, reason string) (*apiv1.EmergencyState, error) {
	e.own.Add(1)
	defer e.own.Add(-1)
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.State()
	if was == nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "NOT_STOPPED", "there is no emergency stop in force").WithRemedy("`sop status` says how the host stands")
	}
	if err := e.marked(); err != nil {
		return nil, err
	}
	if s := e.mark.Read(); s != nil {
		if _, err := e.settle(ctx, s); err != nil { // what was given out before must not come back to life
			return nil, err
		}
		if err := e.record(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := e.mark.Lift(halt.Lift{At: time.Now().UTC(), By: by, Reason: reason}); err != nil {
		return nil, err
	}
	e.release(ctx)
	return was, nil
}

// release lets everything start again. e.mu is held.
func (e *emergency) release(ctx context.Context) {
	if s := e.mark.Lifted(); s != nil {
		e.recordLift(ctx, s)
	}
	e.halted = false
	e.reserve()
	e.host.logger.Warn("the emergency stop was lifted")
	e.host.components.Release()
	e.host.pool.Retry()
	e.host.changed.Tell()
}

// State implements nexus.Emergency.
func (e *emergency) State() *apiv1.EmergencyState {
	s := e.stopped()
	if s == nil {
		return nil
	}
	return &apiv1.EmergencyState{At: timestamppb.New(s.At), By: s.By, Reason: s.Reason}
}
