package patch

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Publisher takes the package's events: [Changed]. It must not block; *event.Bus
// is one.
type Publisher interface {
	Publish(event any)
}

// Changed says, after the commit, what became of a patch. It is shared by all
// subscribers and not to be changed.
type Changed struct {
	Patch  *Patch
	Change Change
}

// Options of a Service.
type Options struct {
	// Dir holds the content of patches; it is made.
	Dir string
	// MaxBytes bounds the content of all patches together; 0 is DefaultMaxBytes.
	MaxBytes int64
	// Keep is for how long the content of patches is kept that are through; 0 is
	// DefaultKeep.
	Keep      time.Duration
	Publisher Publisher        // nil: nobody
	Now       func() time.Time // nil: the clock
	// Revoked says whether an agent was revoked, whose approvals count no more; nil:
	// none ever was.
	Revoked func(agent string) bool
}

// Defaults of Options.
const (
	DefaultMaxBytes = 4 << 30
	DefaultKeep     = 90 * 24 * time.Hour
)

// Service is what can be done with patches. Close it.
type Service struct {
	store Store
	opt   Options
	blobs *blobs
	// proposing is held for reading while content comes in whose patch is not yet
	// in the store, and for writing while content is removed.
	proposing sync.RWMutex
}

// NewService returns a Service.
func NewService(store Store, opt Options) (*Service, error) {
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.Keep <= 0 {
		opt.Keep = DefaultKeep
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	blobs, err := openBlobs(opt.Dir)
	if err != nil {
		return nil, err
	}
	return &Service{store: store, opt: opt, blobs: blobs}, nil
}

// Close gives the directory of the content back.
func (s *Service) Close() error { return s.blobs.close() }

// Get returns the patch that ref names, with its history: by its id, or a
// beginning of the id that no other shares.
func (s *Service) Get(ctx context.Context, ref string) (*Patch, error) { return s.store.Get(ctx, ref) }

// List returns one page of the patches that pass the filter, latest first.
func (s *Service) List(ctx context.Context, filter Filter) (Page, error) {
	return s.store.List(ctx, filter)
}

// update changes a patch in one transaction. fn changes p and says how; when it
// returns no change there is nothing to store.
func (s *Service) update(ctx context.Context, ref string, fn func(p *Patch, now time.Time) (*Change, error)) (*Patch, error) {
	var p *Patch
	var change *Change
	err := s.store.Update(ctx, func(tx Tx) (err error) {
		if p, err = tx.Get(ctx, ref); err != nil {
			return err
		}
		if change, err = fn(p, s.opt.Now()); err != nil || change == nil {
			return err
		}
		return tx.Put(ctx, p, *change)
	})
	if err != nil {
		return nil, err
	}
	if change != nil {
		s.publish(p, *change)
	}
	return p, nil
}

func (s *Service) publish(p *Patch, change Change) {
	if s.opt.Publisher != nil {
		s.opt.Publisher.Publish(Changed{p.clone(), change})
	}
}

// check is update that changes nothing.
func (s *Service) check(ctx context.Context, ref string, fn func(p *Patch, now time.Time) (*Change, error)) (*Patch, error) {
	p, err := s.store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	_, err = fn(p, s.opt.Now())
	return p, err
}

// dropped says in people's words that content is gone.
func dropped(p *Patch, err error) error {
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return sdk.Errorf(codes.FailedPrecondition, ReasonDropped, "the content of patch %s is no longer kept: %w", p.ID, err).
		WithRemedy("restore what it replaced from the backup %s: sop backup restore", p.Backup)
}
