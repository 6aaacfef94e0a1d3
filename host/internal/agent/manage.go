package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Enroll makes an agent. Its key is in the answer and nowhere else.
func (s *Service) Enroll(ctx context.Context, spec Spec) (Secret, *Agent, error) {
	if err := spec.complete(); err != nil {
		return Secret{}, nil, err
	}
	var k Secret
	a, err := s.update(ctx, func(tx Tx, now time.Time) (*Agent, Change, error) {
		if err := free(ctx, tx.Get, spec.Name); err != nil {
			return nil, Change{}, err
		}
		var kept Key
		var err error
		if k, kept, err = s.newKey(now); err != nil {
			return nil, Change{}, err
		}
		a, change := spec.enroll(kept, now)
		return a, change, nil
	})
	if err != nil {
		return Secret{}, nil, err
	}
	return k, a, nil
}

// enroll makes the agent of a spec that is complete.
func (s *Spec) enroll(k Key, now time.Time) (*Agent, Change) {
	why := s.Why
	if why == "" {
		why = "enrolled"
	}
	a := &Agent{
		Name: s.Name, Trust: s.Trust, Groups: s.Groups, State: StateActive, Reason: why,
		CreatedAt: now, CreatedBy: s.By, ChangedAt: now, Keys: []Key{k},
	}
	a.live(s.TTL, now)
	return a, a.note(Enrolled, s.By, why, k.Accessor)
}

// live gives the agent a life from now; zero: without end.
func (a *Agent) live(ttl time.Duration, now time.Time) {
	a.ExpiresAt = time.Time{}
	if ttl > 0 {
		a.ExpiresAt = now.Add(ttl)
	}
}

func (a *Agent) note(action Action, by, why, accessor string) Change {
	return Change{Name: a.Name, Action: action, At: a.ChangedAt, By: by, Why: why, Accessor: accessor, Trust: a.Trust, Groups: a.Groups}
}

// CheckEnroll says whether Enroll would enroll, and does not.
func (s *Service) CheckEnroll(ctx context.Context, spec Spec) error {
	if err := spec.complete(); err != nil {
		return err
	}
	return free(ctx, s.store.Get, spec.Name)
}

// free returns an error where a name was given.
func free(ctx context.Context, get func(context.Context, string) (*Agent, error), who string) error {
	a, err := get(ctx, who)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case a.State == StateRevoked:
		return sdk.Errorf(codes.AlreadyExists, "AGENT_EXISTS", "an agent %s was revoked", who).
			WithRemedy("choose another name: one that records speak of is not given again")
	}
	return sdk.Errorf(codes.AlreadyExists, "AGENT_EXISTS", "there is an agent %s", who).
		WithRemedy("give it a new key with: sop agent rotate %s; or choose another name", who)
}

// Rotation says how a key is replaced.
type Rotation struct {
	Name  string
	Grace time.Duration  // how long the keys before stay valid; zero: not at all
	TTL   *time.Duration // a new life from now, zero without end; nil: the agent ends when it was to
	By    string
	Why   string
}

func (r *Rotation) check() error {
	if r.Grace < 0 || r.Grace > maxGrace {
		return invalid("grace", "old keys stay valid for 30 days at most").WithRemedy("give a time such as 1h")
	}
	if r.TTL != nil {
		if err := checkTTL(*r.TTL); err != nil {
			return err
		}
	}
	if r.Why == "" {
		r.Why = "rotated"
	}
	return checkWhy(r.Why)
}

// Rotate gives an agent a new key, which is in the answer and nowhere else. That
// of [Root] is in its file and not in the answer.
func (s *Service) Rotate(ctx context.Context, r Rotation) (Secret, *Agent, error) {
	if err := r.check(); err != nil {
		return Secret{}, nil, err
	}
	if r.Name == Root {
		a, err := s.rotateRoot(ctx, r)
		return Secret{}, a, err
	}
	k, kept, err := s.newKey(s.opt.Now().UTC())
	if err != nil {
		return Secret{}, nil, err
	}
	a, err := s.rotate(ctx, r, kept)
	if err != nil {
		return Secret{}, nil, err
	}
	return k, a, nil
}

// rotate is the transaction.
func (s *Service) rotate(ctx context.Context, r Rotation, k Key) (*Agent, error) {
	return s.update(ctx, func(tx Tx, now time.Time) (*Agent, Change, error) {
		a, err := tx.Get(ctx, r.Name)
		if err == nil {
			err = a.rotatable(&r, now)
		}
		if err != nil {
			return nil, Change{}, err
		}
		return a, a.rotate(&r, k, now), nil
	})
}

// CheckRotate says whether Rotate would rotate, and does not.
func (s *Service) CheckRotate(ctx context.Context, r Rotation) error {
	if err := r.check(); err != nil {
		return err
	}
	a, err := s.store.Get(ctx, r.Name)
	if err != nil {
		return err
	}
	return a.rotatable(&r, s.opt.Now())
}

func (a *Agent) rotatable(r *Rotation, now time.Time) error {
	switch {
	case a.State == StateRevoked:
		return a.ended()
	case a.At(now) == StateExpired && r.TTL == nil:
		return sdk.Errorf(codes.FailedPrecondition, "AGENT_ENDED", "agent %s has expired", a.Name).WithRemedy("give it a new life with --ttl")
	case a.validKeys(now) >= maxKeys:
		return sdk.Errorf(codes.FailedPrecondition, "AGENT_KEYS", "agent %s has %d keys that are valid", a.Name, maxKeys).
			WithRemedy("rotate without --grace, which ends them all but the new one")
	}
	return nil
}

// maxKeys is how many keys of an agent may be valid at once, the new one aside.
const maxKeys = 8

// validKeys counts the keys that no rotation has ended.
func (a *Agent) validKeys(now time.Time) int {
	n := 0
	for i := range a.Keys {
		if !a.Keys[i].ended(now) {
			n++
		}
	}
	return n
}

// keepEnded is how long a key that was ended is known as such; after that it is
// unknown.
const keepEnded = 30 * 24 * time.Hour

// rotate ends the keys that live after the grace, and adds one.
func (a *Agent) rotate(r *Rotation, k Key, now time.Time) Change {
	end := now.Add(r.Grace)
	a.Keys = slices.DeleteFunc(a.Keys, func(k Key) bool { return k.ended(now.Add(-keepEnded)) })
	for i := range a.Keys {
		if old := &a.Keys[i]; old.EndsAt.IsZero() || old.EndsAt.After(end) {
			old.EndsAt = end
		}
	}
	a.Keys = append(a.Keys, k)
	a.ChangedAt = now
	if r.TTL != nil {
		a.live(*r.TTL, now)
	}
	why := r.Why
	if r.Grace > 0 {
		why = fmt.Sprintf("%s; the keys before end at %s", why, end.Format(time.RFC3339))
	}
	return a.note(Rotated, r.By, why, k.Accessor)
}

func (a *Agent) ended() error {
	return sdk.Errorf(codes.FailedPrecondition, "AGENT_ENDED", "agent %s was revoked", a.Name).
		WithRemedy("an agent that was revoked stays revoked; enroll another")
}

// Revoke ends an agent, with all its keys, at once. That it had been revoked
// before is no error.
func (s *Service) Revoke(ctx context.Context, who, by, why string) (*Agent, error) {
	if err := s.checkRevoke(who, why); err != nil {
		return nil, err
	}
	if why == "" {
		why = "revoked"
	}
	var before *Agent
	a, err := s.update(ctx, func(tx Tx, now time.Time) (*Agent, Change, error) {
		a, err := tx.Get(ctx, who)
		if err != nil {
			return nil, Change{}, err
		}
		if before = nil; a.State == StateRevoked {
			before = a
			return nil, Change{}, errNothing
		}
		a.State, a.Reason, a.ChangedAt = StateRevoked, why, now
		return a, a.note(Revoked, by, why, ""), nil
	})
	if before != nil {
		return before, nil
	}
	return a, err
}

// errNothing ends a transaction that has nothing to do.
var errNothing = errors.New("nothing to do")

// CheckRevoke says whether Revoke would revoke, and does not.
func (s *Service) CheckRevoke(ctx context.Context, who, why string) error {
	if err := s.checkRevoke(who, why); err != nil {
		return err
	}
	_, err := s.store.Get(ctx, who)
	return err
}

func (s *Service) checkRevoke(who, why string) error {
	if who == Root {
		return sdk.Errorf(codes.FailedPrecondition, "AGENT_BUILT_IN", "root cannot be revoked").
			WithRemedy("end its key with: sop agent rotate root")
	}
	return checkWhy(why)
}

// Get returns the agent of the name, in its state as of now.
func (s *Service) Get(ctx context.Context, who string) (*Agent, error) {
	a, err := s.store.Get(ctx, who)
	if err != nil {
		return nil, err
	}
	a.State = a.At(s.opt.Now())
	s.recall(a)
	return a, nil
}

// List returns one page of the agents that pass the filter, in their states as
// of now. A filter or an order sees when they were last used as [Service.Flush] has
// stored it, and who reads the page to the second.
func (s *Service) List(ctx context.Context, filter Filter) (Page, error) {
	filter.At = s.opt.Now()
	page, err := s.store.List(ctx, filter)
	for _, a := range page.Agents {
		a.State = a.At(filter.At)
		s.recall(a)
	}
	return page, err
}
