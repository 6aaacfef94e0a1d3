package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
	"github.com/sop-host/sop/host/internal/token"
)

func TestTokensSQLite(t *testing.T) {
	storetest.RunTokens(t, func(t *testing.T) token.Store { return open(t, filepath.Join(t.TempDir(), "sop.db")).Tokens() })
}

func TestTokensMemory(t *testing.T) {
	storetest.RunTokens(t, func(t *testing.T) token.Store {
		db, err := store.OpenMemory(t.Context())
		return closeLater(t, db, err).Tokens()
	})
}

// In a process that is to be killed nothing else runs.
func init() {
	if dir := os.Getenv("STORE_TEST_TOKEN_VICTIM"); dir != "" {
		consumeUntilKilled(dir)
	}
}

// victims is how many callers are at work in the process that is killed.
const victims = 8

func tokenService(ctx context.Context, dir string) (*store.DB, *token.Service, error) {
	key, err := token.LoadKey(filepath.Join(dir, "token.key"))
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, filepath.Join(dir, "sop.db"))
	if err != nil {
		return nil, nil, err
	}
	s, err := token.NewService(ctx, db.Tokens(), token.Options{Key: key})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, s, nil
}

// consumeUntilKilled issues tokens, uses them up or revokes them on the way, and
// writes records of its own; it says each once it has been acknowledged.
func consumeUntilKilled(dir string) {
	ctx := token.WithReasons(context.Background())
	db, s, err := tokenService(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for v := range victims {
		wg.Go(func() {
			for round := v; ; round++ {
				if err := liveOneLife(ctx, db, s, round%5); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
}

// liveOneLife issues a token of 5 uses, uses it, and revokes it after so many
// uses, unless these are none: then it uses all.
func liveOneLife(ctx context.Context, db *store.DB, s *token.Service, revokeAfter int) error {
	secret, t, err := s.Issue(ctx, token.Spec{Type: token.Test, Operations: []string{"op"}, Requester: "a", MaxUses: 5})
	if err != nil {
		return err
	}
	fmt.Println(token.Issued, t.ID, 1)
	for n := range 5 {
		if revokeAfter > 0 && n == revokeAfter {
			if _, _, err := s.Revoke(ctx, t.ID, "test", ""); err != nil {
				return err
			}
			fmt.Println(token.Revoked, t.ID, 1)
			break
		}
		use, err := s.Consume(ctx, secret.Reveal(), token.Request{Requester: "a", Operation: "op"})
		if err != nil {
			return err
		}
		fmt.Println(token.Used, t.ID, use.Uses)
	}
	if err := db.Audit().Append(ctx, audit.Record{Action: "token.seen", Resource: "token/" + t.ID}); err != nil {
		return err
	}
	fmt.Println("seen", t.ID, 1)
	return nil
}

// TestKilledHostForgetsNothing kills a process that works with tokens, again and
// again on one database, and looks for all that it had acknowledged.
func TestKilledHostForgetsNothing(t *testing.T) {
	kills := 20
	if os.Getenv("SOP_TEST_LONG") != "" {
		kills = 200
	}
	dir := t.TempDir()
	key, err := audit.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.ParseKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	acknowledged, seen := 0, uint64(0)
	for round := range kills {
		said := said(t, killed(t, "STORE_TEST_TOKEN_VICTIM="+dir, 10+rand.IntN(100)))
		db, s, err := tokenService(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		report := storetest.VerifyAudit(t, db.Audit(), verifier)
		recorded := recordedSince(t, db, seen)
		for what, n := range said {
			acknowledged++
			if recorded[what] < n {
				t.Errorf("round %d: %v was acknowledged %d times and recorded %d times", round, what, n, recorded[what])
			}
		}
		checkTokens(t, s, recorded)
		seen = report.Records
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d acknowledged, %d records", kills, acknowledged, seen)
}

// deed is something that was done with a token.
type deed struct{ action, id string }

// said counts what the lines of a killed process acknowledge.
func said(t *testing.T, lines []string) map[deed]int {
	t.Helper()
	out := make(map[deed]int)
	for _, line := range lines {
		var d deed
		var n int
		if _, err := fmt.Sscan(line, &d.action, &d.id, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out[d] = max(out[d], n)
	}
	return out
}

// recordedSince counts what the log says.
func recordedSince(t *testing.T, db *store.DB, seq uint64) map[deed]int {
	t.Helper()
	out := make(map[deed]int)
	for r, err := range db.Audit().Records(t.Context(), seq+1) {
		if err != nil {
			t.Fatal(err)
		}
		out[deed{strings.TrimPrefix(r.Action, "token."), strings.TrimPrefix(r.Resource, "token/")}]++
	}
	return out
}

// checkTokens compares the tokens with what the log says of them: nothing is
// there without its record, and nothing is recorded twice.
func checkTokens(t *testing.T, s *token.Service, recorded map[deed]int) {
	t.Helper()
	for d := range recorded {
		if d.action != string(token.Issued) {
			continue
		}
		got, err := s.Get(t.Context(), d.id)
		if err != nil {
			t.Errorf("%s was issued: %v", d.id, err)
			continue
		}
		n := func(action token.Action) int { return recorded[deed{string(action), d.id}] }
		if n(token.Issued) != 1 || n(token.Activated) != 1 || n(token.Used) != got.Uses ||
			(n(token.Revoked) == 1) != (got.State == token.StateRevoked) || n(token.Revoked) > 1 ||
			(n(token.Completed) == 1) != (got.State == token.StateCompleted) || n(token.Completed) > 1 ||
			(got.Uses == 5) != (got.State == token.StateCompleted) || recorded[deed{"seen", d.id}] > 1 {
			t.Errorf("%+v and its records disagree", got)
		}
	}
}
