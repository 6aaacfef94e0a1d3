package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

// victims is how many callers consume at once in the process that is killed.
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

// consumeUntilKilled issues tokens and uses them up, saying each use once it has
// been acknowledged.
func consumeUntilKilled(dir string) {
	ctx := token.WithReasons(context.Background())
	_, s, err := tokenService(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for range victims {
		wg.Go(func() {
			for {
				secret, _, err := s.Issue(ctx, token.Spec{Type: token.Test, Operations: []string{"op"}, Requester: "a", MaxUses: 5})
				for range 5 {
					if err != nil {
						break
					}
					var use token.Use
					if use, err = s.Consume(ctx, secret.Reveal(), token.Request{Requester: "a", Operation: "op"}); err == nil {
						fmt.Printf("%s %d\n", use.Accessor, use.Uses)
					}
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
}

// TestKilledHostForgetsNoUse kills a process that consumes, again and again on
// one database, and looks for every use that it had acknowledged.
func TestKilledHostForgetsNoUse(t *testing.T) {
	rounds := 20
	if os.Getenv("SOP_TEST_LONG") != "" {
		rounds = 200
	}
	dir := t.TempDir()
	said := make(map[string]int) // the most uses by accessor
	for round := range rounds {
		killWhileConsuming(t, dir, 10+rand.IntN(100), said)
		db, s, err := tokenService(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for accessor, uses := range said {
			got, err := s.Get(t.Context(), accessor)
			if err != nil || got.Uses < uses || got.Uses > uses+1 || (got.Uses == 5) != (got.State == token.StateCompleted) {
				t.Errorf("round %d: %d uses of %s were acknowledged, and now: %+v, %v", round, uses, accessor, got, err)
			}
		}
		clear(said)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func killWhileConsuming(t *testing.T, dir string, after int, said map[string]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_TOKEN_VICTIM="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); n++ { // to the end of what it had said
		var accessor string
		var uses int
		if got, _ := fmt.Sscanf(lines.Text(), "%s %d", &accessor, &uses); got == 2 && len(accessor) == 16 {
			said[accessor] = max(said[accessor], uses)
		}
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || n <= after {
		t.Fatalf("the process ended by itself after %d uses: %v", n, err)
	}
}
