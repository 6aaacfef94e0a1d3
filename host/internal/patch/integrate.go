package patch

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Begin says that a patch is being integrated, under a token, which its accessor
// names. It must be done before anything is changed: what is found in the state
// after a crash is looked up in the journal.
func (s *Service) Begin(ctx context.Context, ref, hash, by, token string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if err := p.is(hash); err != nil {
			return nil, err
		}
		p.Token = token
		c, err := p.move(StateIntegrating, Integrating, by, "integration has begun", now)
		c.Token = token
		return one(c, err)
	})
}

// BackedUp says what the backup of what a patch is about to replace is called.
func (s *Service) BackedUp(ctx context.Context, ref, by, backup string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if p.State != StateIntegrating {
			return nil, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "patch %s is %s and is not being integrated", p.ID, p.State).
				WithRemedy("%s", p.State.remedy())
		}
		p.Backup = backup
		c := p.note(BackedUp, by, "saved as "+backup, now)
		c.Token = p.Token
		return &c, nil
	})
}

// Integrated says that all of a patch is where it belongs, and what was replaced
// is saved.
func (s *Service) Integrated(ctx context.Context, ref, by string, d Done) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if p.State == StateIntegrated {
			return nil, nil
		}
		p.Done, p.IntegratedAt = d, now.UTC()
		if d.Backup != "" {
			p.Backup = d.Backup
		}
		c, err := p.move(StateIntegrated, Integrated, by, "integrated", now)
		c.Token = p.Token
		return one(c, err)
	})
}

// Undone says that nothing of a patch is in the workspace, although it was being
// integrated: it can be tried again.
func (s *Service) Undone(ctx context.Context, ref, by, why string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		return one(p.move(StateApproved, Undone, by, why, now))
	})
}

// RollbackRequest says who takes a patch back, and how.
type RollbackRequest struct {
	By, Why string
	Token   string // accessor of the token that it is done under
	Merge   bool   // keep what was edited since
}

// Reversal says how a patch was taken back.
type Reversal struct {
	Token string // accessor of the token that it was done under
	// From is where the old content came from, such as "journal" or "backup <id>";
	// empty: none was needed, or it is not known any more.
	From string
	// Backup is the snapshot of what was replaced in turn; empty: nothing was that is
	// not kept anyway.
	Backup string
	Notes  []string // for people
}

// BeginRollback says that a patch is being taken back, under a token, which its
// accessor names. It must be said before anything is changed. It may come to
// nothing: the token is the patch's when it is rolled back.
func (s *Service) BeginRollback(ctx context.Context, ref, by, why, token string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if err := p.canRollBack(now); err != nil {
			return nil, err
		}
		c := p.note(RollingBack, by, why, now)
		c.Token = token
		return &c, nil
	})
}

// RollbackRefused says that what BeginRollback has said came to nothing, and why.
func (s *Service) RollbackRefused(ctx context.Context, ref, by, why, token string) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		c := p.note(RollbackRefused, by, why, now)
		c.Token = token
		return &c, nil
	})
}

// RolledBack says that what was integrated was taken back, and how.
func (s *Service) RolledBack(ctx context.Context, ref, by, why string, how Reversal) (*Patch, error) {
	return s.update(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		if p.State == StateRolledBack {
			return nil, nil
		}
		c, err := p.move(StateRolledBack, RolledBack, by, why, now)
		p.Token = how.Token
		c.Token, c.Source, c.Backup = how.Token, how.From, how.Backup
		return one(c, err)
	})
}

// canRollBack says whether the patch is one that can be taken back.
func (p *Patch) canRollBack(now time.Time) error {
	_, err := p.clone().move(StateRolledBack, RolledBack, "", "", now)
	return err
}

// CheckRollback says whether a patch is one that can be taken back.
func (s *Service) CheckRollback(ctx context.Context, ref string) (*Patch, error) {
	return s.check(ctx, ref, func(p *Patch, now time.Time) (*Change, error) {
		return nil, p.canRollBack(now)
	})
}

// pruneAtATime bounds how many patches one transaction drops.
const pruneAtATime = 200

// settling is for how long content is kept that no patch needs: its patch may be
// on the way in.
const settling = time.Hour

// Prune drops the content of patches that have long been through, and removes what
// no patch needs. It returns the bytes that were freed.
func (s *Service) Prune(ctx context.Context) (freed int64, err error) {
	now := s.opt.Now()
	for n := pruneAtATime; n == pruneAtATime; {
		err := s.store.Update(ctx, func(tx Tx) (err error) {
			n, err = tx.Drop(ctx, now.Add(-s.opt.Keep), pruneAtATime)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	s.proposing.Lock()
	defer s.proposing.Unlock()
	needed, err := s.store.Contents(ctx)
	if err != nil {
		return 0, err
	}
	return s.blobs.prune(needed, now.Add(-settling))
}
