package answer

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Life is how long an answer is kept.
const Life = 24 * time.Hour

// Bounds of what is kept.
const (
	MaxKey    = 128 // bytes of an idempotency key
	MaxAnswer = 1 << 20
	maxRows   = 200_000
	maxBytes  = 256 << 20
)

// Keeper lets calls through once. It is safe for concurrent use, and the only
// user of its store.
type Keeper struct {
	store Store
	key   []byte
	now   func() time.Time

	mu     sync.Mutex
	flying map[string]chan struct{} // closed when the call with the id has ended
	usage  Usage
}

// NewKeeper returns a keeper whose answers are encrypted under key, of 32
// random bytes at least. A nil now is time.Now.
func NewKeeper(ctx context.Context, store Store, key []byte, now func() time.Time) (*Keeper, error) {
	if len(key) < 32 {
		return nil, errors.New("answers: no key")
	}
	if now == nil {
		now = time.Now
	}
	usage, err := store.Usage(ctx)
	if err != nil {
		return nil, err
	}
	return &Keeper{store: store, key: key, now: now, flying: make(map[string]chan struct{}), usage: usage}, nil
}

// Call is a call that has an idempotency key.
type Call struct {
	Caller string
	Key    string
	// Request is a digest of all that is asked for.
	Request []byte
	// Repeatable says that doing it again does no harm.
	Repeatable bool
}

// Do runs fn, or returns what an earlier call with the same key was answered;
// the second result tells which. A call with the same key that is under way is
// awaited. fn returns the answer and whether it is final: what is not final is
// returned and forgotten, and the next call with the key runs anew.
func (k *Keeper) Do(ctx context.Context, c Call, fn func() (answer []byte, final bool)) ([]byte, bool, error) {
	if err := checkKey(c.Key); err != nil {
		return nil, false, err
	}
	id := derive(k.key, "id", []byte(c.Caller), []byte(c.Key))
	land, err := k.takeOff(ctx, string(id))
	if err != nil {
		return nil, false, err
	}
	defer land()
	row := Row{ID: id, Request: derive(k.key, "request", c.Request), At: k.now().UTC()}
	earlier, err := k.reserve(ctx, row)
	if err != nil {
		return nil, false, err
	}
	sealing := derive(k.key, "seal", []byte(c.Caller), []byte(c.Key))
	if earlier != nil {
		answer, err := recall(earlier, &row, sealing)
		if answer != nil || err != nil || !c.Repeatable {
			return answer, true, cutOffUnless(answer, err)
		}
	}
	return k.run(ctx, &row, sealing, fn)
}

// cutOffUnless is the error for a reservation that has no answer.
func cutOffUnless(answer []byte, err error) error {
	if answer != nil || err != nil {
		return err
	}
	return sdk.Errorf(codes.Aborted, "IDEMPOTENCY_UNKNOWN", "a call with this idempotency key was cut off, and whether it took effect is not known").
		WithRemedy("look whether it did, and if not call again with a new key")
}

// recall returns the answer of an earlier call; nil when it has none.
func recall(earlier, row *Row, sealing []byte) ([]byte, error) {
	if !bytes.Equal(earlier.Request, row.Request) {
		return nil, sdk.Errorf(codes.AlreadyExists, "IDEMPOTENCY_KEY_REUSED", "the idempotency key was used for another request").
			WithRemedy("use a key for one request only").WithField("idempotency_key", "")
	}
	if earlier.Sealed == nil {
		return nil, nil
	}
	answer, err := unseal(sealing, earlier.ID, earlier.Sealed)
	if err != nil {
		return nil, sdk.Errorf(codes.DataLoss, "IDEMPOTENCY_ANSWER", "the answer to the earlier call with this idempotency key cannot be read: %w", err).
			WithRemedy("look whether the call took effect, and if not call again with a new key")
	}
	return answer, nil
}

// run lets the call through.
func (k *Keeper) run(ctx context.Context, row *Row, sealing []byte, fn func() ([]byte, bool)) ([]byte, bool, error) {
	answer, final := fn()
	ctx = context.WithoutCancel(ctx) // the effect is there, whoever waits for it
	if !final {
		if err := k.store.Release(ctx, row.ID); err == nil {
			k.count(Usage{Rows: -1})
		} // otherwise the next call is told that it is not known
		return answer, false, nil
	}
	if len(answer) > MaxAnswer {
		return answer, false, nil // the next call is told that it is not known
	}
	sealed, err := seal(sealing, row.ID, answer)
	if err == nil {
		err = k.store.Answer(ctx, row.ID, sealed)
	}
	if err == nil {
		k.count(Usage{Bytes: int64(len(sealed))})
	}
	return answer, false, nil // likewise; this caller has its answer
}

// takeOff waits until no call with the id is under way, and makes this one so
// until land is called.
func (k *Keeper) takeOff(ctx context.Context, id string) (land func(), err error) {
	for {
		k.mu.Lock()
		other := k.flying[id]
		if other == nil {
			done := make(chan struct{})
			k.flying[id] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.flying, id)
				k.mu.Unlock()
				close(done)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (k *Keeper) reserve(ctx context.Context, row Row) (*Row, error) {
	k.mu.Lock()
	full := k.usage.Rows >= maxRows || k.usage.Bytes >= maxBytes
	k.mu.Unlock()
	earlier, gone, err := k.store.Reserve(ctx, row, row.At.Add(-Life), full)
	if err != nil {
		return nil, err
	}
	k.count(Usage{-gone.Rows, -gone.Bytes})
	switch {
	case earlier != nil:
		return earlier, nil
	case full:
		return nil, sdk.Errorf(codes.ResourceExhausted, "IDEMPOTENCY_FULL", "no more answers can be kept").
			WithRemedy("call without an idempotency key, or later").RetryIn(time.Minute)
	}
	k.count(Usage{Rows: 1})
	return nil, nil
}

func (k *Keeper) count(u Usage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.usage.Rows += u.Rows
	k.usage.Bytes += u.Bytes
}

func checkKey(key string) error {
	ok := key != "" && len(key) <= MaxKey
	for i := range len(key) {
		ok = ok && key[i] > ' ' && key[i] <= '~'
	}
	if ok {
		return nil
	}
	return sdk.Errorf(codes.InvalidArgument, "IDEMPOTENCY_KEY", "the idempotency key is too long or not printable").
		WithRemedy("give at most %d printable ASCII characters without spaces, such as a random UUID", MaxKey).WithField("idempotency_key", "")
}
