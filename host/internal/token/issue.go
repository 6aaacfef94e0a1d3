package token

import (
	"context"
	"fmt"
	"time"
)

// Issue makes a token. Its secret is in the answer and nowhere else. What needs
// no transaction is done before it: others wait for their turn meanwhile.
func (s *Service) Issue(ctx context.Context, spec Spec) (Secret, *Token, error) {
	if err := s.Check(spec); err != nil {
		return Secret{}, nil, err
	}
	secret, err := newSecret(spec.Type)
	if err != nil {
		return Secret{}, nil, err
	}
	hash := s.opt.Key.Hash(purpose, secret)
	var t *Token
	err = s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		if err = spec.complete(*s.limits.Load(), now); err != nil {
			return w, err
		}
		t, err = s.create(ctx, tx, &w, &spec, secret.Accessor(), hash, nil, now)
		return w, err
	})
	if err != nil {
		return Secret{}, nil, err
	}
	return secret, t, nil
}

// Check says whether Issue would make a token of spec, and makes none.
func (s *Service) Check(spec Spec) error {
	if err := spec.complete(*s.limits.Load(), s.clock.now()); err != nil {
		return err
	}
	return s.mayHold(spec.Requester)
}

// IssueChild makes a narrower token from one that is presented by who holds it.
// The uses of the child are taken from its parent for good.
func (s *Service) IssueChild(ctx context.Context, text string, holder Request, spec Spec) (Secret, *Token, error) {
	parent, err := s.parent(ctx, text, holder)
	if err != nil {
		return Secret{}, nil, told(ctx, err)
	}
	var secret Secret
	var child *Token
	var refused error
	err = s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		var from *Token
		if from, refused, err = ready(ctx, tx, &w, parent.Accessor, now); err != nil || refused != nil {
			return w, err
		}
		if refused = s.barred(from); refused != nil {
			return w, err
		}
		if err = from.narrow(&spec, now); err != nil {
			return w, err
		}
		if spec.MaxUses > from.Remaining() {
			return w, wider("max_uses")
		}
		secret, child, err = s.give(ctx, tx, &w, from, &spec, now)
		return w, err
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Secret{}, nil, told(ctx, err)
	}
	return secret, child, nil
}

// parent returns the token that is presented by who holds it.
func (s *Service) parent(ctx context.Context, text string, holder Request) (*Token, error) {
	t, err := s.admit(ctx, text, holder.Source)
	if err == nil && t.Requester != holder.Requester {
		return nil, t.denied(ReasonWrongAgent, "was issued to another agent").WithRemedy("hand on a token of your own")
	}
	return t, err
}

// give reserves uses of a token and makes a child of them.
func (s *Service) give(ctx context.Context, tx Tx, w *written, from *Token, spec *Spec, now time.Time) (Secret, *Token, error) {
	from, err := tx.Take(ctx, from, 0, spec.MaxUses, now)
	if err != nil {
		return Secret{}, nil, err
	}
	if from == nil {
		return Secret{}, nil, wider("max_uses")
	}
	secret, err := newSecret(spec.Type)
	if err != nil {
		return Secret{}, nil, err
	}
	child, err := s.create(ctx, tx, w, spec, secret.Accessor(), s.opt.Key.Hash(purpose, secret), from, now)
	if err != nil {
		return Secret{}, nil, err
	}
	why := fmt.Sprintf("%d of its uses to child %s", spec.MaxUses, child.Accessor)
	changes := []Change{from.note(Delegated, spec.IssuedBy, why, now)}
	done, err := from.completeIfSpent(spec.IssuedBy, why, now)
	if err != nil {
		return Secret{}, nil, err
	}
	changes = append(changes, done...)
	w.add(from, changes...)
	return secret, child, tx.Put(ctx, []*Token{from}, changes)
}

// create stores a new token of a spec that is complete; parent may be nil.
func (s *Service) create(ctx context.Context, tx Tx, w *written, spec *Spec, accessor string, hash []byte, parent *Token, now time.Time) (*Token, error) {
	if err := s.mayHold(spec.Requester); err != nil {
		return nil, err
	}
	t, err := spec.fresh(now)
	if err != nil {
		return nil, err
	}
	t.Accessor, t.Hash = accessor, hash
	if parent != nil {
		t.Parent, t.Depth = parent.ID, parent.Depth+1
	}
	why := spec.Why
	if why == "" {
		why = "issued"
	}
	issued, err := t.move(StatePending, Issued, spec.IssuedBy, why, now)
	if err != nil {
		return nil, err
	}
	changes := []Change{issued}
	if t.due(now) {
		activated, err := t.activate(now)
		if err != nil {
			return nil, err
		}
		changes = append(changes, activated)
	}
	w.add(t, changes...)
	return t, tx.Put(ctx, []*Token{t}, changes)
}
