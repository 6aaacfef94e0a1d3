package ship

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/sdk"
)

// sender sends messages to one place. It is used by one goroutine.
type sender interface {
	// send returns once all of the messages are where they go, as far as that
	// can be known, or an error: then any of them may be there.
	send(ctx context.Context, messages []message) error
	close() error
}

// message is one record or one checkpoint.
type message struct {
	record *audit.Record     // or
	note   *audit.Checkpoint // nil
}

const (
	sendTimeout = 15 * time.Second // for one attempt
	firstPause  = time.Second
	longestWait = 5 * time.Minute
	tellEvery   = time.Hour // how often a lasting failure is a record
)

// carrier follows the log and sends what comes.
type carrier struct {
	name  string
	spec  *Spec
	opt   *Options
	notes *notes // of a carrier of checkpoints
	to    sender

	pull    func() (*audit.Record, error, bool) // of a mirror; nil between readings
	unpull  func()
	saved   uint64    // the cursor as it is in the store
	savedAt time.Time // when it was put there

	mu    sync.Mutex
	state audit.SinkStatus
	told  time.Time     // when the failure was last made a record
	news  chan struct{} // closed and replaced after each attempt
}

func newCarrier(name string, spec *Spec, opt *Options) *carrier {
	c := &carrier{name: name, spec: spec, opt: opt, news: make(chan struct{})}
	c.state = audit.SinkStatus{Name: name, Mirror: spec.Mirror, Kind: spec.Kind, Target: spec.Shown}
	if !spec.Mirror {
		c.notes = newNotes()
	}
	return c
}

// newSender makes what sends.
func newSender(s *Spec, hostname string) (sender, error) {
	switch {
	case s.Kind == "file" && s.Mirror:
		return &mirrorFile{path: s.Target, maxSize: s.MaxSize, files: s.Files}, nil
	case s.Kind == "file":
		return &checkpointFile{path: s.Target}, nil
	case s.Kind == "syslog":
		return newSyslog(s.Target, s.Format, hostname)
	case s.Kind == "http" && !s.Mirror:
		return newHTTP(s)
	}
	return nil, fmt.Errorf("%s cannot be sent to", s.Kind)
}

// run sends until ctx is done.
func (c *carrier) run(ctx context.Context) {
	defer c.finish(ctx)
	next := c.nextNote
	if c.spec.Mirror {
		next = c.nextRecords
	}
	if !c.begin(ctx) {
		return
	}
	pause := firstPause
	for ctx.Err() == nil {
		err := c.once(ctx, next)
		if err == nil {
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			return
		}
		c.failed(err)
		select {
		case <-time.After(pause + rand.N(pause/4)): //nolint:gosec // spreads attempts, and is no secret
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longestWait)
	}
}

// finish remembers how far the carrier came, and closes what it holds.
func (c *carrier) finish(ctx context.Context) {
	c.rewind()
	if err := c.save(ctx, true); err != nil {
		c.opt.Warn(c.name, err)
	}
	if c.to != nil {
		if err := c.to.close(); err != nil {
			c.opt.Warn(c.name, err)
		}
	}
}

// saveEvery is how often the cursor of a mirror is put into the store: each is
// a write that callers of the host would wait for.
const saveEvery = time.Second

// save puts the cursor into the store, when it is time to or must be.
func (c *carrier) save(ctx context.Context, must bool) error {
	sent := c.sent()
	if sent == c.saved || !must && time.Since(c.savedAt) < saveEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	if err := c.opt.Trail.Store.PutCursor(ctx, c.name, sent); err != nil {
		return fmt.Errorf("remember what was sent: %w", err)
	}
	c.saved, c.savedAt = sent, time.Now()
	return nil
}

// begin reads how far the carrier had come; it reports false when ctx is done.
func (c *carrier) begin(ctx context.Context) bool {
	pause := firstPause
	for {
		sent, err := c.opt.Trail.Store.Cursor(ctx, c.name)
		if err == nil {
			c.mu.Lock()
			c.state.Sent = sent
			c.mu.Unlock()
			c.saved = sent
			return true
		}
		c.failed(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
		pause = min(2*pause, longestWait)
	}
}

// once waits for what comes next, sends it, and remembers that it did.
func (c *carrier) once(ctx context.Context, next func(context.Context) ([]message, uint64, error)) error {
	messages, through, err := next(ctx)
	if err != nil || len(messages) == 0 {
		return err
	}
	if err := c.deliver(ctx, messages); err != nil {
		c.rewind()
		return err
	}
	c.delivered(through)
	return c.save(ctx, !c.spec.Mirror)
}

// deliver makes one attempt.
func (c *carrier) deliver(ctx context.Context, messages []message) error {
	if c.to == nil {
		to, err := newSender(c.spec, c.opt.Hostname)
		if err != nil {
			return err // and to is none, whatever it looks like
		}
		c.to = to
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return c.to.send(ctx, messages)
}

func (c *carrier) sent() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Sent
}

// delivered notes a success, which is a record where it ends a failure that was
// one.
func (c *carrier) delivered(through uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell()
	was := c.state
	c.state.Sent, c.state.LastSent = through, time.Now().UTC()
	c.state.Failures, c.state.FailingSince, c.state.Error, c.state.Remedy = 0, time.Time{}, "", ""
	if was.Failures > 0 && !c.told.IsZero() {
		c.told = time.Time{}
		c.opt.Record(c.record(audit.Success, "sends again", was.Failures))
	}
}

// failed notes a failure: the first of several is a record, and then one an
// hour.
func (c *carrier) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell()
	now := time.Now().UTC()
	if c.state.Failures == 0 {
		c.state.FailingSince = now
	}
	c.state.Failures++
	var own *sdk.Error
	c.state.Error, c.state.Remedy = err.Error(), "make "+c.spec.Shown+" reachable; what was not sent is sent then"
	if errors.As(err, &own) && own.Remedy != "" {
		c.state.Remedy = own.Remedy
	}
	if now.Sub(c.told) >= tellEvery {
		c.told = now
		c.opt.Warn(c.name, err)
		c.opt.Record(c.record(audit.Failure, c.state.Error, c.state.Failures))
	}
}

// ActionSink is the action of records about carriers.
const ActionSink = "audit.sink"

func (c *carrier) record(outcome audit.Outcome, reason string, failures int) audit.Record {
	return audit.Record{
		Actor: "host", Action: ActionSink, Resource: "audit/" + c.name, Outcome: outcome, Reason: reason,
		Attributes: map[string]string{"failures": strconv.Itoa(failures), "sent": strconv.FormatUint(c.state.Sent, 10)},
	}
}

func (c *carrier) status() audit.SinkStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// tell wakes whoever waits in settle; mu is held.
func (c *carrier) tell() {
	close(c.news)
	c.news = make(chan struct{})
}

// settle waits until all up to a record is sent, or the carrier fails, or ctx
// is done.
func (c *carrier) settle(ctx context.Context, through uint64) {
	for {
		c.mu.Lock()
		state, news := c.state, c.news
		c.mu.Unlock()
		if state.Sent >= through || state.Failures > 0 {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

func cannot(remedy, format string, args ...any) error {
	return sdk.Errorf(codes.Unavailable, "AUDIT_SINK", format, args...).WithRemedy("%s", remedy)
}
