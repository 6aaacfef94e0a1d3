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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

func TestAgentsSQLite(t *testing.T) {
	storetest.RunAgents(t, func(t *testing.T) agent.Store { return open(t, filepath.Join(t.TempDir(), "sop.db")).Agents() })
}

func TestAgentsMemory(t *testing.T) {
	storetest.RunAgents(t, func(t *testing.T) agent.Store {
		db, err := store.OpenMemory(t.Context())
		return closeLater(t, db, err).Agents()
	})
}

// In a process that is to be killed nothing else runs.
func init() {
	if dir := os.Getenv("STORE_TEST_AGENT_VICTIM"); dir != "" {
		enrollUntilKilled(dir)
	}
}

func agentService(ctx context.Context, dir string) (*store.DB, *agent.Service, error) {
	key, err := agent.LoadHostKey(filepath.Join(dir, "agent.key"))
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, filepath.Join(dir, "sop.db"))
	if err != nil {
		return nil, nil, err
	}
	s, err := agent.NewService(ctx, db.Agents(), agent.Options{Key: key, RootFile: filepath.Join(dir, "root.credential")})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, s, nil
}

// enrollUntilKilled enrolls agents and revokes every third, saying what was
// acknowledged: the key, and what has become of it.
func enrollUntilKilled(dir string) {
	ctx := context.Background()
	_, s, err := agentService(ctx, dir)
	if err == nil {
		_, err = s.EnsureRoot(ctx)
	}
	var wg sync.WaitGroup
	for i := range victims {
		wg.Go(func() {
			for n := 0; err == nil; n++ {
				name := fmt.Sprintf("a%d-%d-%d", os.Getpid(), i, n)
				k, _, err := s.Enroll(ctx, agent.Spec{Name: name, By: "test"})
				if err == nil {
					fmt.Printf("enrolled %s\n", k.Reveal())
					if n%3 == 0 {
						if _, err = s.Revoke(ctx, name, "test", ""); err == nil {
							fmt.Printf("revoked %s\n", k.Reveal())
						}
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
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilledHostForgetsNoAgent kills a process that enrolls, again and again on
// one database, and looks for everything that it had acknowledged.
func TestKilledHostForgetsNoAgent(t *testing.T) {
	rounds := 10
	if os.Getenv("SOP_TEST_LONG") != "" {
		rounds = 200
	}
	dir := t.TempDir()
	for round := range rounds {
		said := killWhileEnrolling(t, dir, 5+rand.IntN(60))
		db, s, err := agentService(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if wrong, err := s.EnsureRoot(t.Context()); wrong != nil || err != nil {
			t.Fatalf("round %d: root: %v, %v", round, wrong, err)
		}
		for key, state := range said {
			a, err := s.Authenticate(t.Context(), key)
			if state == "revoked" && err == nil || state == "enrolled" && err != nil && !strings.Contains(err.Error(), "revoked") {
				t.Errorf("round %d: %s was acknowledged, and now: %+v, %v", round, state, a, err)
			}
		}
		wantRecords(t, db, said)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRecords asserts that every enrolment that was acknowledged is in the audit
// log, and no key is.
func wantRecords(t *testing.T, db *store.DB, said map[string]string) {
	t.Helper()
	key, err := audit.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	recorded := make(map[string]bool)
	for filter := (audit.Filter{Action: "agent.enroll"}); ; {
		page, err := log.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			recorded[r.Attributes["key"]] = true
			if strings.Contains(fmt.Sprint(*r), agent.Prefix) {
				t.Errorf("record %d holds a key", r.Seq)
			}
		}
		if filter.Token = page.Next; page.Next == "" {
			break
		}
	}
	for text := range said {
		k, err := agent.ParseKey(text)
		if err != nil || !recorded[k.Accessor()] {
			t.Errorf("%s is not in the log: %v", k.Accessor(), err)
		}
	}
}

func killWhileEnrolling(t *testing.T, dir string, after int) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_AGENT_VICTIM="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(map[string]string)
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); n++ { // to the end of what it had said
		state, key, _ := strings.Cut(lines.Text(), " ")
		if _, err := agent.ParseKey(key); err == nil {
			said[key] = state
		}
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || n <= after {
		t.Fatalf("the process ended by itself after %d: %v", n, err)
	}
	return said
}
