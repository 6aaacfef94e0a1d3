package audit

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Options say how a [Log] works.
type Options struct {
	Store Store
	Key   *Key
	// Dir is where archived segments are kept; it is made when it is needed.
	Dir string
	// Every is after how many records a checkpoint is signed; 0 means 1000.
	Every uint64
	// Interval is after how long one is signed if there are new records; 0
	// means a minute.
	Interval time.Duration
	// OnError is told what kept a checkpoint from being signed. nil is fine.
	OnError func(error)
	// OnSigned is told of every checkpoint that was signed, in order; it must not
	// block. nil is fine.
	OnSigned func(*Checkpoint)
}

// Log is the audit log of a running host. It is safe for concurrent use.
type Log struct {
	Options
	verifier note.Verifier
	signing  sync.Mutex
	moving   sync.RWMutex // held alone while records are archived
}

// Trail is the whole log, with what was archived.
func (l *Log) Trail() Trail { return Trail{Store: l.Store, Dir: l.Dir} }

// NewLog returns a log. Run makes it sign checkpoints.
func NewLog(opt Options) (*Log, error) {
	if opt.Every == 0 {
		opt.Every = 1000
	}
	if opt.Interval == 0 {
		opt.Interval = time.Minute
	}
	if opt.OnError == nil {
		opt.OnError = func(error) {}
	}
	if opt.OnSigned == nil {
		opt.OnSigned = func(*Checkpoint) {}
	}
	verifier, err := ParseKey([]byte(opt.Key.Public))
	if err != nil {
		return nil, err
	}
	return &Log{Options: opt, verifier: verifier}, nil
}

// PublicKey is the key that verifies checkpoints, in one line.
func (l *Log) PublicKey() string { return l.Key.Public }

// Append writes records in a transaction of their own. When it returns an error
// none of them is there, and what they speak of must not happen.
func (l *Log) Append(ctx context.Context, records ...Record) error {
	if err := l.Store.Append(ctx, records...); err != nil {
		return unrecorded(err)
	}
	return nil
}

func unrecorded(cause error) error {
	remedy := "make room for the database, or mend it"
	if why := sdk.FromError(cause); why.Remedy != "" {
		remedy = why.Remedy
	}
	e := sdk.Errorf(codes.Unavailable, "AUDIT_UNAVAILABLE", "the audit record cannot be written: %w", cause).
		WithRemedy("%s; nothing is done that cannot be recorded", remedy)
	e.Retryable = true
	return e
}

// List returns one page. Where archives are listed too, a page may be short, or
// empty, and yet have a next one.
func (l *Log) List(ctx context.Context, filter Filter) (Page, error) {
	if filter.Archived {
		return l.Trail().list(ctx, filter)
	}
	return l.Store.List(ctx, filter)
}

// Follow returns what passes the filter and comes after filter.After, in order,
// and goes on as the log grows, until ctx is done.
// What has been archived comes from the archives.
func (l *Log) Follow(ctx context.Context, filter Filter) iter.Seq2[*Record, error] {
	filter.Oldest, filter.Token = true, ""
	return func(yield func(*Record, error) bool) {
		for ctx.Err() == nil {
			changed := l.Store.Changed() // before the list, so that no record is missed
			page, err := l.Store.List(ctx, filter)
			if err == nil {
				var moved bool
				if moved, err = l.followArchives(ctx, &filter, yield); moved {
					if err != nil {
						return
					}
					continue
				}
			}
			if err != nil {
				if ctx.Err() == nil {
					yield(nil, err)
				}
				return
			}
			for _, r := range page.Records {
				filter.After = r.Seq
				if !yield(r, nil) {
					return
				}
			}
			if page.Next != "" {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// followArchives yields what of a filter lies in archives and reports whether
// anything does; an error with it says that nobody listens any more.
func (l *Log) followArchives(ctx context.Context, filter *Filter, yield func(*Record, error) bool) (bool, error) {
	through, err := l.Trail().archivedThrough(ctx)
	if err != nil || through <= filter.After {
		return false, err
	}
	for r, err := range l.Trail().Records(ctx, filter.After+1) {
		if err != nil {
			if ctx.Err() == nil {
				yield(nil, err)
			}
			return true, err
		}
		if r.Seq > through {
			break
		}
		match := filter.Match(r)
		filter.After = r.Seq
		if match && !yield(r, nil) {
			return true, errStopped
		}
	}
	filter.After = max(filter.After, through)
	return true, nil
}

var errStopped = errors.New("nobody listens any more")

// Checkpoint signs the log as it is now and keeps what it signed; where nothing
// has come since the last checkpoint, it returns that one.
func (l *Log) Checkpoint(ctx context.Context) (*Checkpoint, error) {
	l.signing.Lock()
	defer l.signing.Unlock()
	head, err := l.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	last, err := l.Latest(ctx)
	if err != nil {
		return nil, err
	}
	if last != nil && last.Size == head.Size && last.Root == head.Root() {
		return last, nil
	}
	c, err := Sign(&head, time.Now(), l.Key)
	if err != nil {
		return nil, err
	}
	if err := l.Store.PutCheckpoint(ctx, c); err != nil {
		return nil, err
	}
	l.OnSigned(c)
	return c, nil
}

// Latest returns the largest checkpoint, or nil. One that this host's key has
// not signed is an error.
func (l *Log) Latest(ctx context.Context) (*Checkpoint, error) {
	last, err := l.Store.LastCheckpoint(ctx)
	if err != nil || last == nil {
		return nil, err
	}
	return OpenCheckpoint(last.Note, l.verifier)
}

// Verify reads the whole log and checks it against itself and against every
// checkpoint in the store, and those given.
func (l *Log) Verify(ctx context.Context, also ...string) (*Report, error) {
	l.moving.RLock()
	defer l.moving.RUnlock()
	return l.Trail().Verify(ctx, l.verifier, also...)
}

// VerifyStore is [Log.Verify] where no host runs and nothing was archived.
func VerifyStore(ctx context.Context, store Store, key note.Verifier, also ...string) (*Report, error) {
	return Trail{Store: store}.Verify(ctx, key, also...)
}

// Export writes the whole log.
func (l *Log) Export(ctx context.Context, format Format, to io.Writer) error {
	for r, err := range l.Trail().Records(ctx, 1) {
		if err != nil {
			return err
		}
		if err := format.Write(to, r); err != nil {
			return err
		}
	}
	return nil
}

// lastSign is how long the checkpoint at the end may take.
const lastSign = 5 * time.Second

// Run signs checkpoints until ctx is done, and a last one then.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(l.Interval)
	defer tick.Stop()
	signed := l.sign(ctx, 0)
	for {
		changed := l.Store.Changed()
		if head, err := l.Store.Head(ctx); err == nil && head.Size >= signed+l.Every {
			signed = l.sign(ctx, signed)
		}
		select {
		case <-changed:
		case <-tick.C:
			signed = l.sign(ctx, signed)
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSign)
			defer cancel()
			l.sign(ctx, signed)
			return
		}
	}
}

// sign signs and returns how many records are signed now; were is how many were.
func (l *Log) sign(ctx context.Context, were uint64) uint64 {
	c, err := l.Checkpoint(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			l.OnError(err)
		}
		return were
	}
	return c.Size
}
