package token

import (
	"bytes"
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Validate says whether the token that is presented permits what is asked, and
// costs no use. It reads memory only, once the token is there. A refusal is an
// error, as it is for Consume.
func (s *Service) Validate(ctx context.Context, text string, req Request) (*Token, error) {
	t, err := s.admit(ctx, text, req.Source)
	if err != nil {
		return nil, told(ctx, err)
	}
	if err := t.permits(&req); err != nil {
		return nil, told(ctx, err)
	}
	now := s.clock.now()
	if err := s.usable(t, now); err != nil {
		return nil, told(ctx, s.settle(ctx, t, now, err))
	}
	return t.At(now), nil
}

// Consume validates the token that is presented and takes one use of it, as
// one. When it returns nil the use is on disk. With a key, a retry within
// [AnswerLife] gets the answer of the first and costs nothing.
func (s *Service) Consume(ctx context.Context, text string, req Request) (Use, error) {
	req.NamedOnly = false
	if err := checkUseKey(req.Key); err != nil {
		return Use{}, err
	}
	t, err := s.admit(ctx, text, req.Source)
	if err != nil {
		return Use{}, told(ctx, err)
	}
	if err := t.permits(&req); err != nil {
		return Use{}, told(ctx, err)
	}
	if now := s.clock.now(); req.Key == "" {
		if err := s.usable(t, now); err != nil {
			return Use{}, told(ctx, s.settle(ctx, t, now, err))
		}
	}
	use, err := s.take(ctx, t, &req)
	return use, told(ctx, err)
}

func checkUseKey(key string) error {
	if len(key) > maxKey || !isName(key, true) {
		return invalid("idempotency_key", "the idempotency key is too long or not printable").WithRemedy("give at most %d printable bytes", maxKey)
	}
	return nil
}

// AnswerLife is how long a retry with the same key gets the same answer.
const AnswerLife = 24 * time.Hour

// admit returns the token whose secret was presented, whatever its state.
func (s *Service) admit(ctx context.Context, text, source string) (*Token, error) {
	secret, err := ParseSecret(text)
	if err != nil {
		return nil, s.failed(source, err)
	}
	t, err := s.find(ctx, secret.Accessor())
	if err != nil {
		return nil, err
	}
	var hash []byte // of no secret: an unknown accessor costs the same work
	if t != nil {
		hash = t.Hash
	}
	if !s.opt.Key.Proves(purpose, secret, hash) {
		return nil, s.failed(source, unknown())
	}
	return t, nil
}

// failed returns what a failure is answered: refusal, which counts against the
// source, or, while the source has to wait, the same for all.
//
// Many callers can share a source: all that run as one user do. So a secret that
// is proven passes whatever others have presented; otherwise whoever guesses
// could lock out whom it shares a source with. That gives a guesser nothing: to
// find 256 random bits by trying is hopeless at any speed, and while the source
// waits the refusal is the same whatever was wrong. What the guard is for is the
// rest: that guessing yields no reasons, costs the host little, and stands out in
// the records. Form, accessor and secret are checked in the same way, and the
// secret in constant time, whether or not the source is held back.
func (s *Service) failed(source string, refusal error) error {
	if err := s.refuse(source); err != nil {
		return err
	}
	s.guard.Failed(source, s.clock.now())
	return refusal
}

func unknown() *sdk.Error {
	return denial(ReasonUnknown, "there is no such token").WithRemedy("give the token that was issued to you, by this host")
}

// find returns a token from memory, or from the store and then from memory.
func (s *Service) find(ctx context.Context, accessor string) (*Token, error) {
	t, writes := s.cache.get(accessor)
	if t != nil {
		return t, nil
	}
	t, err := s.store.Find(ctx, accessor)
	if err != nil || t == nil {
		return nil, err
	}
	s.cache.load(t, writes)
	return t, nil
}

// settle records that a token has expired before anybody is told so: whatever
// becomes of the clock, it stays expired. It returns why the token is refused.
func (s *Service) settle(ctx context.Context, t *Token, now time.Time, refusal error) error {
	if !t.lapsed(now) {
		return refusal
	}
	err := s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		current, err := tx.Find(ctx, t.Accessor)
		if err != nil || current == nil || !current.lapsed(now) {
			return w, err
		}
		return w, expire(ctx, tx, &w, current, now)
	})
	if err != nil {
		return err // it is refused all the same
	}
	return refusal
}

func expire(ctx context.Context, tx Tx, w *written, t *Token, now time.Time) error {
	change, err := t.expire(now)
	if err != nil {
		return err
	}
	w.add(t, change)
	return tx.Put(ctx, []*Token{t}, []Change{change})
}

// take is the transaction of a use.
func (s *Service) take(ctx context.Context, t *Token, req *Request) (use Use, err error) {
	var refused error
	err = s.update(ctx, func(tx Tx, now time.Time) (w written, err error) {
		use, refused = Use{}, nil
		if req.Key != "" {
			var answered bool
			if use, answered, err = earlier(ctx, tx, t.ID, req, now); err != nil || answered {
				return w, err
			}
		}
		if refused = s.barred(t); refused != nil {
			return w, err
		}
		taken, err := tx.Take(ctx, t, 1, 0, now)
		if err != nil {
			return w, err
		}
		if taken == nil {
			if _, refused, err = ready(ctx, tx, &w, t.Accessor, now); err != nil || refused != nil {
				return w, err
			}
			if taken, err = tx.Take(ctx, t, 1, 0, now); err != nil {
				return w, err
			}
			if taken == nil {
				return w, t.exhausted()
			}
		}
		use, err = record(ctx, tx, &w, taken, req, now)
		return w, err
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Use{}, err
	}
	return use, nil
}

// earlier returns what a use with the same key was answered.
func earlier(ctx context.Context, tx Tx, id string, req *Request, now time.Time) (Use, bool, error) {
	a, err := tx.Answer(ctx, id, req.Key)
	if err != nil || a == nil || now.Sub(a.At) >= AnswerLife {
		return Use{}, false, err
	}
	if !bytes.Equal(a.Request, req.digest()) {
		return Use{}, false, sdk.Errorf(codes.AlreadyExists, "IDEMPOTENCY_KEY_REUSED", "the idempotency key was used for something else").
			WithRemedy("use a key for one request only")
	}
	a.Use.Again = true
	return a.Use, true, nil
}

// ready returns the token in a transaction, active; or why it cannot be used,
// with what the time has brought recorded.
func ready(ctx context.Context, tx Tx, w *written, accessor string, now time.Time) (*Token, error, error) {
	t, err := tx.Find(ctx, accessor)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, unknown(), nil
	}
	if t.lapsed(now) {
		refused := t.usable(now)
		return nil, refused, expire(ctx, tx, w, t, now)
	}
	if refused := t.usable(now); refused != nil {
		return nil, refused, nil
	}
	if t.due(now) {
		change, err := t.activate(now)
		if err != nil {
			return nil, nil, err
		}
		w.add(t, change)
		return t, nil, tx.Put(ctx, []*Token{t}, []Change{change})
	}
	return t, nil, nil
}

// record writes down a use that was taken.
func record(ctx context.Context, tx Tx, w *written, t *Token, req *Request, now time.Time) (Use, error) {
	why := "used for " + req.Operation
	changes := []Change{{
		TokenID: t.ID, Accessor: t.Accessor, Action: Used, At: now, From: t.State, To: t.State, By: req.Requester, Why: why,
	}}
	done, err := t.completeIfSpent(req.Requester, why, now)
	if err != nil {
		return Use{}, err
	}
	changes = append(changes, done...)
	w.add(t, changes...)
	var changed []*Token
	if len(done) > 0 {
		changed = []*Token{t}
	}
	if err := tx.Put(ctx, changed, changes); err != nil {
		return Use{}, err
	}
	use := Use{ID: t.ID, Accessor: t.Accessor, State: t.State, Uses: t.Uses, Remaining: t.Remaining(), At: now, ExpiresAt: t.ExpiresAt}
	if req.Key == "" {
		return use, nil
	}
	return use, tx.PutAnswer(ctx, t.ID, req.Key, &Answer{At: now, Request: req.digest(), Use: use})
}
