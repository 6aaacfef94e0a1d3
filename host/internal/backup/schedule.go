package backup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Schedule says what is saved, verified and tried out by itself, and how often.
type Schedule struct {
	Name      string
	Plugin    string
	Workspace string // empty: the host's own state
	// Every is how often each work is done; a work that is missing, or zero, is
	// not.
	Every  map[Work]time.Duration
	Retain Retention
}

func (s *Schedule) same(o *Schedule) bool {
	if s.Name != o.Name || s.Plugin != o.Plugin || s.Workspace != o.Workspace || s.Retain != o.Retain {
		return false
	}
	return !slices.ContainsFunc(Works(), func(w Work) bool { return s.Every[w] != o.Every[w] })
}

// Maintainer is told which parts of the host people have to look after, such as
// "backup.nightly", and which are well again.
type Maintainer interface {
	File(ctx context.Context, subsystem, description, remedy, severity string) error
	Healthy(ctx context.Context, subsystem string) error
}

// severity is how urgent it is that a schedule fails.
const severity = "high"

// SchedulerOptions are what a Scheduler is made of.
type SchedulerOptions struct {
	Service *Service
	// Maintainer may be nil: failures stand in the status and the audit log.
	Maintainer Maintainer
	// Jitter bounds by how much a work is put off, so that not everything happens
	// at once; 0: a twentieth of its interval, at most [MaxJitter].
	Jitter func(interval time.Duration) time.Duration
	// Changed is called when the status has changed; nil is fine.
	Changed func()
}

const (
	// MaxJitter bounds by how much a work is put off.
	MaxJitter = 5 * time.Minute
	// soon bounds by how much what was never done, or was cut off, is put off.
	soon = 2 * time.Second
	// retryAfter is how long after a failure a work is tried again, unless its
	// interval is shorter.
	retryAfter = 10 * time.Minute
	// pruneEvery is how often plugins are told to forget what their retention no
	// longer keeps.
	pruneEvery = 24 * time.Hour
	// pruneAfter is after how many snapshots they are told to earlier.
	pruneAfter = 64
)

// Scheduler does the works of schedules when they are due. What came due while
// the host did not run is done once, soon after the start.
type Scheduler struct {
	SchedulerOptions
	ctx    context.Context //nolint:containedctx // the scheduler's own life; Close ends it
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu  sync.Mutex
	all map[string]*scheduled
}

// scheduled is one schedule that is in force. Scheduler.mu guards what changes.
type scheduled struct {
	Schedule
	stop  context.CancelFunc
	done  chan struct{}
	wake  chan struct{} // told when a due time has changed
	works map[Work]*progress
}

// progress is how one work of a schedule stands.
type progress struct {
	lastOK  *Run // nil: never
	last    *Run // nil: never
	due     time.Time
	running bool
}

// NewScheduler returns a scheduler without schedules. Close it.
func NewScheduler(opt SchedulerOptions) *Scheduler {
	if opt.Jitter == nil {
		opt.Jitter = func(interval time.Duration) time.Duration {
			return rand.N(min(interval/20, MaxJitter) + 1) //nolint:gosec // only to spread the load
		}
	}
	if opt.Changed == nil {
		opt.Changed = func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Scheduler{SchedulerOptions: opt, ctx: ctx, cancel: cancel, all: make(map[string]*scheduled)}
	s.wg.Go(s.housekeeping)
	return s
}

// Close ends what is under way, and waits for it.
func (s *Scheduler) Close() {
	s.cancel()
	s.wg.Wait()
}

// Apply puts exactly these schedules in force. One that has not changed goes on
// undisturbed, but for what has failed, which is tried again at once: what it
// failed for may have been mended. One that has gone is ended, with what it is
// doing.
func (s *Scheduler) Apply(ctx context.Context, schedules []Schedule) error {
	runs, err := s.Service.Store.LastRuns(ctx)
	if err != nil {
		return err
	}
	var ended []chan struct{}
	s.mu.Lock()
	wanted := make(map[string]bool)
	for _, next := range schedules {
		wanted[next.Name] = true
		if old := s.all[next.Name]; old != nil && old.same(&next) {
			s.retry(old)
			continue
		} else if old != nil {
			old.stop()
			ended = append(ended, old.done)
		}
		s.begin(next, runs)
	}
	for name, old := range s.all {
		if !wanted[name] {
			old.stop()
			ended = append(ended, old.done)
			delete(s.all, name)
		}
	}
	s.mu.Unlock()
	for _, done := range ended {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.Changed()
	return nil
}

// retry makes due what has failed; s.mu is held.
func (s *Scheduler) retry(x *scheduled) {
	for _, p := range x.works {
		if p.last != nil && !p.last.OK() && !p.running {
			p.due = s.Service.Now()
		}
	}
	select {
	case x.wake <- struct{}{}:
	default: // it was told already
	}
}

// begin puts a schedule in force; s.mu is held.
func (s *Scheduler) begin(schedule Schedule, runs []*Run) {
	ctx, stop := context.WithCancel(s.ctx)
	now := s.Service.Now()
	x := &scheduled{Schedule: schedule, stop: stop, done: make(chan struct{}), wake: make(chan struct{}, 1), works: make(map[Work]*progress)}
	for _, w := range Works() {
		if schedule.Every[w] > 0 {
			x.works[w] = &progress{}
		}
	}
	for _, r := range runs {
		p := x.works[r.Work]
		if r.Schedule != schedule.Name || p == nil {
			continue
		}
		r.StartedAt = earlier(r.StartedAt, now) // a clock that was ahead puts nothing off for years
		if r.OK() && (p.lastOK == nil || r.StartedAt.After(p.lastOK.StartedAt)) {
			p.lastOK = r
		}
		if p.last == nil || r.StartedAt.After(p.last.StartedAt) {
			p.last = r
		}
	}
	for w := range x.works {
		s.plan(x, w)
	}
	s.all[schedule.Name] = x
	s.wg.Go(func() {
		defer close(x.done)
		s.follow(ctx, x)
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// plan says when a work is due next; s.mu is held. To verify comes after there is
// something to verify: the zero time is never.
func (s *Scheduler) plan(x *scheduled, w Work) {
	p, interval, now := x.works[w], x.Every[w], s.Service.Now()
	jitter := s.Jitter(interval)
	switch {
	case w != Save && x.works[Save] != nil && x.works[Save].lastOK == nil:
		p.due = time.Time{}
	case p.last == nil, p.last.EndedAt.IsZero(): // never, or cut off by the end of the host
		p.due = now.Add(min(jitter, soon))
	case !p.last.OK():
		p.due = p.last.EndedAt.Add(min(interval, retryAfter) + jitter)
	default:
		p.due = p.last.StartedAt.Add(interval + jitter)
	}
}

// never is how long nothing is waited for.
const never = 1000 * time.Hour

// follow does the works of a schedule as they come due, until ctx is done.
func (s *Scheduler) follow(ctx context.Context, x *scheduled) {
	for {
		w, due := s.next(x)
		wait := never
		if w != "" {
			wait = max(0, due.Sub(s.Service.Now()))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-x.wake:
			timer.Stop()
		case <-timer.C:
			if w != "" {
				s.do(ctx, x, w)
			}
		}
	}
}

// next is the work that is due first; empty: none is.
func (s *Scheduler) next(x *scheduled) (first Work, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range Works() {
		if p := x.works[w]; p != nil && !p.due.IsZero() && (first == "" || p.due.Before(due)) {
			first, due = w, p.due
		}
	}
	return first, due
}

// tooEarly says whether there is nothing yet that a work could be done with, and
// puts it off then: a schedule that is new, or that saves on request only, has no
// snapshot to be tried out.
func (s *Scheduler) tooEarly(ctx context.Context, x *scheduled, w Work) bool {
	if w != Drill {
		return false
	}
	_, err := s.Service.latestWhole(ctx, x.Name)
	if sdk.FromError(err) == nil || sdk.FromError(err).Reason != reasonNone {
		return false
	}
	s.mu.Lock()
	x.works[w].due = s.Service.Now().Add(min(x.Every[w], retryAfter))
	s.mu.Unlock()
	s.Changed()
	return true
}

// do does a work once and records it.
func (s *Scheduler) do(ctx context.Context, x *scheduled, w Work) {
	if s.tooEarly(ctx, x, w) {
		return
	}
	id, err := newID()
	run := &Run{ID: id, Schedule: x.Name, Work: w, Plugin: x.Plugin, StartedAt: s.Service.Now().UTC()}
	if err == nil {
		err = s.recordRun(ctx, run)
	}
	s.note(x, w, run, true)
	if err == nil {
		run.Snapshot, run.Message, err = s.perform(ctx, x, w)
	}
	if ctx.Err() != nil {
		return // the host stops, or the schedule has changed: it is done again
	}
	done := *run
	done.EndedAt = s.Service.Now().UTC()
	if err != nil {
		e := sdk.FromError(err)
		done.Reason, done.Message = firstOf(e.Reason, e.Code.String()), clip(e.Message)
		s.Service.Logger.Error("scheduled "+string(w)+" failed", "schedule", x.Name, "plugin", x.Plugin, "error", err)
		s.fail(ctx, x, w, &done, e.Remedy)
	}
	if err := s.recordRun(ctx, &done); err != nil {
		s.Service.Logger.Error("a scheduled work could not be recorded", "schedule", x.Name, "work", w, "error", err)
	}
	s.note(x, w, &done, false)
}

// note takes over how a work stands.
func (s *Scheduler) note(x *scheduled, w Work, run *Run, running bool) {
	well := false
	s.mu.Lock()
	p := x.works[w]
	p.running = running
	if !running {
		p.last = run
		if run.OK() {
			p.lastOK = run
		}
		well = run.OK() && !slices.ContainsFunc(Works(), func(w Work) bool { return x.works[w] != nil && x.works[w].failed() })
		for other, q := range x.works { // a first save makes the others due
			if other == w || q.due.IsZero() {
				s.plan(x, other)
			}
		}
	}
	s.mu.Unlock()
	if well && s.Maintainer != nil {
		if err := s.Maintainer.Healthy(context.WithoutCancel(s.ctx), "backup."+x.Name); err != nil {
			s.Service.Logger.Error("that a schedule is well again could not be told", "schedule", x.Name, "error", err)
		}
	}
	s.Changed()
}

// failed says that the last run ended badly.
func (p *progress) failed() bool { return p.last != nil && !p.last.EndedAt.IsZero() && !p.last.OK() }

func (s *Scheduler) recordRun(ctx context.Context, run *Run) error {
	return s.Service.record(ctx, func(ctx context.Context, tx Tx) error { return tx.PutRun(ctx, run) })
}

// fail tells of a failure: the audit log, and with it the events, and who looks
// after things.
func (s *Scheduler) fail(ctx context.Context, x *scheduled, w Work, run *Run, remedy string) {
	err := s.Service.record(ctx, func(ctx context.Context, tx Tx) error {
		return tx.Record(ctx, Deed{
			At: run.EndedAt, Action: "scheduled", By: actor, Plugin: x.Plugin, Workspace: x.Workspace, Failed: true, Why: run.Reason,
			Attributes: map[string]string{"schedule": x.Name, "work": string(w), "message": run.Message},
		})
	})
	if s.Maintainer != nil {
		err = errors.Join(err, s.Maintainer.File(ctx, "backup."+x.Name, fmt.Sprintf("scheduled %s failed: %s: %s", w, run.Reason, run.Message), remedy, severity))
	}
	if err != nil {
		s.Service.Logger.Error("a failed backup could not be told of", "schedule", x.Name, "error", err)
	}
}

// perform does a work, and returns the snapshot that was made or tried out, and
// what of the work could not be done.
func (s *Scheduler) perform(ctx context.Context, x *scheduled, w Work) (snapshot, left string, err error) {
	by := "schedule " + x.Name
	switch w {
	case Save:
		snapshot, err = s.saveAndRetain(ctx, x, by)
		return snapshot, "", err
	case Structure, Data:
		v, err := s.Service.Verify(ctx, VerifyRequest{Plugin: x.Plugin, Data: w == Data, Schedule: x.Name, By: by})
		if err == nil && !v.Intact {
			err = sdk.Errorf(codes.DataLoss, "BACKUP_DAMAGED", "%s", v.Summary()).WithRemedy("run `sop backup verify --plugin %s`", x.Plugin)
		}
		return "", "", err
	case Drill:
		snap, left, err := s.Service.Drill(ctx, x.Name, by)
		if snap == nil {
			return "", "", err
		}
		return snap.ID, left, err
	}
	return "", "", fmt.Errorf("there is no work %q", w)
}

func (s *Scheduler) saveAndRetain(ctx context.Context, x *scheduled, by string) (string, error) {
	r := SaveRequest{Plugin: x.Plugin, Workspace: x.Workspace, Reason: ForSchedule, Schedule: x.Name, By: by, Whole: true}
	save := s.Service.Save
	if x.Workspace == "" {
		save = s.Service.SaveState
	}
	snap, err := save(ctx, r)
	if snap == nil {
		return "", err
	}
	if err == nil {
		err = s.Service.retain(ctx, x.Name, x.Retain)
	}
	return snap.ID, err
}

// housekeeping has plugins forget what their retention does not keep.
func (s *Scheduler) housekeeping() {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	last := make(map[string]time.Time)
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		case <-s.Service.crowded:
		}
		for _, name := range s.Service.Plugins.Names() {
			if s.Service.savesOf(name) < pruneAfter && s.Service.Now().Sub(last[name]) < pruneEvery {
				continue
			}
			last[name] = s.Service.Now()
			if _, err := s.Service.Prune(s.ctx, PruneRequest{Plugin: name, By: actor}); err != nil && sdk.FromError(err).Code != codes.Unimplemented && s.ctx.Err() == nil {
				s.Service.Logger.Warn("nothing was pruned", "plugin", name, "error", err)
			}
		}
	}
}

// Standing is how a schedule stands.
type Standing struct {
	Schedule string
	Plugin   string
	// Workspace is empty for the host's own state.
	Workspace string
	Works     []WorkStanding // in the order of Works
}

// WorkStanding is how one work of a schedule stands.
type WorkStanding struct {
	Work    Work
	LastOK  *Run // nil: never
	Last    *Run // nil: never
	Due     time.Time
	Running bool
}

// Problem says in one sentence what is wrong; empty: nothing is.
func (w *WorkStanding) Problem() string {
	if w.Last == nil || w.Last.OK() || w.Last.EndedAt.IsZero() {
		return ""
	}
	return w.Last.Reason + ": " + w.Last.Message
}

// Standings are how all schedules stand, by name.
func (s *Scheduler) Standings() []Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Standing, 0, len(s.all))
	for _, x := range s.all {
		st := Standing{Schedule: x.Name, Plugin: x.Plugin, Workspace: x.Workspace}
		for _, w := range Works() {
			if p := x.works[w]; p != nil {
				st.Works = append(st.Works, WorkStanding{w, p.lastOK, p.last, p.due, p.running})
			}
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Standing) int { return strings.Compare(a.Schedule, b.Schedule) })
	return out
}
