package store

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/token"
)

var groupTime0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func groupToken(i, uses int) *token.Token {
	return &token.Token{
		ID: fmt.Sprintf("0192-%03d", i), Accessor: fmt.Sprintf("acc%013d", i), Hash: []byte{byte(i)}, Type: token.Test, State: token.StateActive, Reason: "issued",
		Operations: []string{"op"}, Requester: "agent", IssuedBy: "test", CreatedAt: groupTime0, NotBefore: groupTime0, ChangedAt: groupTime0,
		ExpiresAt: groupTime0.Add(time.Hour), MaxLife: time.Hour, MaxUses: uses, Version: 1,
	}
}

// inGroup runs turns as one group, each on a goroutine of its own, and returns
// what each came to.
func inGroup(t *testing.T, db *DB, turns []func(token.Tx) error) []error {
	t.Helper()
	release := hold(t, db)
	errs := make([]error, len(turns))
	var wg sync.WaitGroup
	for i, turn := range turns {
		wg.Go(func() { errs[i] = db.Tokens().Update(t.Context(), turn) })
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return errs
}

// Whatever callers do to tokens in one group, and whichever of them fail, what is
// in the database afterwards is what the others did, one after the other.
func TestTokensOfAGroup(t *testing.T) {
	db := openGroups(t)
	const tokens = 5
	rng := rand.New(rand.NewPCG(1, 2))
	model := make(map[string]*token.Token)
	for i := range tokens {
		made := groupToken(i, 1000)
		if err := db.Tokens().Update(t.Context(), func(tx token.Tx) error { return tx.Put(t.Context(), []*token.Token{made}, nil) }); err != nil {
			t.Fatal(err)
		}
		model[made.Accessor] = made
	}
	failed := errors.New("turn failed")
	answered := make(map[string]int)
	for round := range 40 {
		var mu sync.Mutex // turns of a group are one after the other; this tells the race detector nothing new, but keeps the model apart from the test's goroutine
		var turns []func(token.Tx) error
		for n := range 1 + rng.IntN(20) {
			which, kind, fails := rng.IntN(tokens), rng.IntN(6), rng.IntN(4) == 0
			turns = append(turns, func(tx token.Tx) error {
				mu.Lock()
				defer mu.Unlock()
				ctx := t.Context()
				accessor := groupToken(which, 0).Accessor
				want := *model[accessor]
				found, err := tx.Find(ctx, accessor)
				if err != nil {
					return err
				}
				if found.Uses != want.Uses || found.Reason != want.Reason || found.Version != want.Version {
					t.Errorf("round %d: found %d uses, %q, version %d; want %d, %q, %d", round, found.Uses, found.Reason, found.Version, want.Uses, want.Reason, want.Version)
				}
				key := fmt.Sprintf("%d.%d", round, n)
				switch kind {
				case 0, 1, 2:
					if found, err = tx.Take(ctx, found, 1, 0, groupTime0.Add(time.Minute)); err != nil || found == nil {
						return errors.Join(err, errors.New("no use was left"))
					}
					err = tx.PutAnswer(ctx, found.ID, key, &token.Answer{At: groupTime0, Request: []byte(key), Use: token.Use{ID: found.ID, Uses: found.Uses}})
				case 3:
					found.Reason = key
					found.Version++
					err = tx.Put(ctx, []*token.Token{found}, nil)
				case 4:
					var due []*token.Token
					due, err = tx.Due(ctx, groupTime0.Add(2*time.Hour), 100) // sees what is pending
					for _, d := range due {
						if d.Uses != model[d.Accessor].Uses || d.Reason != model[d.Accessor].Reason {
							t.Errorf("round %d: due %d uses, %q; want %d, %q", round, d.Uses, d.Reason, model[d.Accessor].Uses, model[d.Accessor].Reason)
						}
					}
				case 5:
					err = tx.SetClock(ctx, groupTime0.Add(time.Duration(round)*time.Second)) // needs a savepoint
				}
				if err != nil {
					return err
				}
				if fails {
					return failed
				}
				model[accessor] = found
				if kind <= 2 {
					answered[key] = found.Uses
				}
				return nil
			})
		}
		for _, err := range inGroup(t, db, turns) {
			if err != nil && !errors.Is(err, failed) {
				t.Fatal(err)
			}
		}
	}
	for accessor, want := range model {
		stored, err := db.Tokens().Find(t.Context(), accessor)
		if err != nil {
			t.Fatal(err)
		}
		if stored.Uses != want.Uses || stored.Reason != want.Reason || stored.Version != want.Version || !stored.LastUse.Equal(want.LastUse) {
			t.Errorf("stored %+v; want %+v", stored, want)
		}
	}
	var kept int
	if err := db.read.QueryRowContext(t.Context(), "SELECT count(*) FROM token_answers").Scan(&kept); err != nil || kept != len(answered) {
		t.Errorf("%d answers are kept, %v; want %d", kept, err, len(answered))
	}
}

// A token and the answer to its first use can be of one group.
func TestAnswerOfANewToken(t *testing.T) {
	db := openGroups(t)
	made := groupToken(1, 3)
	errs := inGroup(t, db, []func(token.Tx) error{func(tx token.Tx) error {
		ctx := t.Context()
		if err := tx.Put(ctx, []*token.Token{made}, nil); err != nil {
			return err
		}
		taken, err := tx.Take(ctx, made, 1, 0, groupTime0.Add(time.Minute))
		if err != nil || taken == nil {
			return errors.Join(err, errors.New("no use was left"))
		}
		if err := tx.PutAnswer(ctx, made.ID, "key", &token.Answer{At: groupTime0, Request: []byte("use"), Use: token.Use{Uses: 1}}); err != nil {
			return err
		}
		a, err := tx.Answer(ctx, made.ID, "key")
		if err != nil || a == nil || a.Use.Uses != 1 {
			t.Errorf("answer %+v, %v", a, err)
		}
		return nil
	}})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	stored, err := db.Tokens().Find(t.Context(), made.Accessor)
	if err != nil || stored.Uses != 1 || stored.Version != 2 {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

// What somebody else wrote to the database meanwhile, as an emergency stop of a
// host that hangs does, is seen by the next group.
func TestTokensOfSomebodyElse(t *testing.T) {
	db := openGroups(t)
	made := groupToken(1, 3)
	take := func(tx token.Tx) error {
		taken, err := tx.Take(t.Context(), made, 1, 0, groupTime0.Add(time.Minute))
		if err == nil && taken == nil {
			err = errWork
		}
		return err
	}
	for _, fn := range []func(token.Tx) error{func(tx token.Tx) error { return tx.Put(t.Context(), []*token.Token{made}, nil) }, take} {
		if err := db.Tokens().Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	other, err := sql.Open("sqlite", filepath.Clean(db.path))
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.ExecContext(t.Context(), "UPDATE tokens SET state = 'revoked', reason = 'emergency', version = version + 1")
	if err := errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := db.Tokens().Update(t.Context(), take); !errors.Is(err, errWork) {
		t.Errorf("a revoked token was used: %v", err)
	}
	stored, err := db.Tokens().Find(t.Context(), made.Accessor)
	if err != nil || stored.State != token.StateRevoked || stored.Uses != 1 {
		t.Errorf("stored %+v, %v", stored, err)
	}
}
