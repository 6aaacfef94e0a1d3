package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_VICTIM"); path != "" {
		writeUntilKilled(path)
	}
	if path := os.Getenv("STORE_TEST_AUDIT_VICTIM"); path != "" {
		auditUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

func closeLater(t testing.TB, db *store.DB, err error) *store.DB {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), path)
	return closeLater(t, db, err)
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) gap.Store { return open(t, filepath.Join(t.TempDir(), "sop.db")).Gaps() })
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) gap.Store {
		db, err := store.OpenMemory(t.Context())
		return closeLater(t, db, err).Gaps()
	})
}

func TestFilesArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "state", "s o?p%.db")
	db := open(t, path)
	if _, err := db.Gaps().Counts(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

func TestOpenAgainAndAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	for range 3 {
		db, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.Reason != reason || e.Remedy == "" {
		t.Errorf("got %v (%+v), want reason %s and a remedy", err, e, reason)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)")
	if err := errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), path)
	wantReason(t, err, "STORE_NEWER")
	_, err = store.OpenReadOnly(t.Context(), path) // what it does not know would look like damage
	wantReason(t, err, "STORE_NEWER")
}

func TestDamagedFileIsRefusedAndKept(t *testing.T) {
	healthy := filepath.Join(t.TempDir(), "sop.db")
	db, err := store.Open(t.Context(), healthy)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(healthy)
	if err != nil {
		t.Fatal(err)
	}
	zeroed := bytes.Clone(content)
	clear(zeroed[4096:8192])
	for name, damaged := range map[string][]byte{
		"text":      []byte("this is no database, but somebody's notes, and they must stay"),
		"truncated": content[:len(content)/2+100],
		"zeroed":    zeroed,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sop.db")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := store.Open(t.Context(), path)
			if err == nil {
				_ = db.Close()
			}
			wantReason(t, err, "STORE_CORRUPT")
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
				t.Errorf("the damaged file was changed (%v)", err)
			}
		})
	}
}

func TestUnwritableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), filepath.Join(file, "sop.db"))
	wantReason(t, err, "STORE_UNUSABLE")
}

// writeUntilKilled stores gaps, saying the id of each once Update has returned.
func writeUntilKilled(path string) {
	ctx := context.Background()
	db, err := store.Open(ctx, path)
	for i := 0; err == nil; i++ {
		id := fmt.Sprintf("%08d-0000-7000-8000-000000000000", i)
		g := &gap.Gap{ID: id, Fingerprint: "g1:" + id, Workspace: "w", State: gap.StateOpen}
		err = db.Gaps().Update(ctx, func(tx gap.Tx) error { return tx.Put(ctx, []*gap.Gap{g}, []gap.Change{{GapID: id}}) })
		if err == nil {
			fmt.Println(id)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilledWriterLosesNothing kills a process that writes and looks for what
// it had been told is stored.
func TestKilledWriterLosesNothing(t *testing.T) {
	for round := range 3 {
		path := filepath.Join(t.TempDir(), "sop.db")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_TEST_VICTIM="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said []string
		stop := 5 + rand.IntN(20)
		for line := ""; ; line = "" {
			if _, err := fmt.Fscanln(out, &line); err != nil {
				break // killed, and all that it said is read
			}
			said = append(said, line)
			if len(said) == stop {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || len(said) < stop {
			t.Fatalf("the writer ended by itself after %d gaps: %v", len(said), err)
		}
		db := open(t, path)
		for _, id := range said {
			if g, err := db.Gaps().Get(t.Context(), id); err != nil || len(g.History) != 1 {
				t.Errorf("round %d: gap %s was acknowledged and is not there: %v", round, id, err)
			}
		}
	}
}
