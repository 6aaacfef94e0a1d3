package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// mount mounts something at a new directory, or skips.
func mount(t *testing.T, source, fstype string, flags uintptr, data string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(source, dir, fstype, flags, data); err != nil {
		t.Skipf("cannot mount a file system here (root can): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDiskFull fills the disk beneath a database that is written to by many,
// more than once: what was acknowledged stays, what was refused is not there,
// and the work goes on when there is room again.
func TestDiskFull(t *testing.T) {
	t.Run("file system", func(t *testing.T) {
		dir := mount(t, "tmpfs", "tmpfs", 0, "size=12m")
		ballast := filepath.Join(dir, "ballast")
		survive(t, dir, func(on bool) {
			if !on {
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				return
			}
			f, err := os.Create(ballast)
			if err != nil {
				t.Fatal(err)
			}
			for err == nil { // all but a little
				_, err = f.Write(make([]byte, 64<<10))
			}
			info, err := f.Stat()
			if err := errors.Join(err, f.Truncate(info.Size()-256<<10), f.Close()); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("file size", func(t *testing.T) {
		signal.Ignore(syscall.SIGXFSZ)
		defer signal.Reset(syscall.SIGXFSZ)
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		limit := func(size uint64) {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
				t.Fatal(err)
			}
		}
		defer limit(before.Cur)
		dir := t.TempDir()
		survive(t, dir, func(on bool) {
			limit(before.Cur)
			if on {
				info, err := os.Stat(filepath.Join(dir, "sop.db-wal"))
				if err != nil {
					t.Fatal(err)
				}
				limit(uint64(info.Size()) + 256<<10)
			}
		})
	})
}

// survive lets callers work with tokens, on a disk that is full in between.
func survive(t *testing.T, dir string, full func(on bool)) {
	ctx := token.WithReasons(t.Context())
	key, err := audit.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.ParseKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	db, s, err := tokenService(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	l := ledger{deeds: make(map[deed]int)}
	for range 3 {
		full(true)
		l.work(ctx, t, s, 1<<20)
		full(false)
		l.work(ctx, t, s, 3)
	}
	l.compare(t, db, s)
	storetest.VerifyAudit(t, db.Audit(), verifier)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if db, s, err = tokenService(ctx, dir); err != nil {
		t.Fatal(err)
	}
	l.compare(t, db, s)
	storetest.VerifyAudit(t, db.Audit(), verifier)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// ledger is what was acknowledged.
type ledger struct {
	mu    sync.Mutex
	deeds map[deed]int
}

func (l *ledger) add(action token.Action, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deeds[deed{string(action), id}]++
}

// work has callers issue and use tokens, each so many, or until it is refused
// because there is no room.
func (l *ledger) work(ctx context.Context, t *testing.T, s *token.Service, lives int) {
	t.Helper()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range lives {
				if err := l.life(ctx, s); err != nil {
					e := sdk.FromError(err)
					if lives < 1<<20 || e.Remedy == "" || !slices.Contains([]string{"STORE_FULL", "STORE_IO", "STORE_GROUP_LOST"}, e.Reason) {
						t.Errorf("got %v (%s)", err, e.Reason)
					}
					return
				}
			}
		})
	}
	wg.Wait()
}

func (l *ledger) life(ctx context.Context, s *token.Service) error {
	secret, tok, err := s.Issue(ctx, token.Spec{Type: token.Test, Operations: []string{"op"}, Requester: "a", MaxUses: 5})
	if err != nil {
		return err
	}
	l.add(token.Issued, tok.ID)
	for range 3 {
		if _, err := s.Consume(ctx, secret.Reveal(), token.Request{Requester: "a", Operation: "op"}); err != nil {
			return err
		}
		l.add(token.Used, tok.ID)
	}
	if _, _, err := s.Revoke(ctx, tok.ID, "test", ""); err != nil {
		return err
	}
	l.add(token.Revoked, tok.ID)
	return nil
}

// compare finds what was acknowledged, and nothing else, in the log and in the
// tokens.
func (l *ledger) compare(t *testing.T, db *store.DB, s *token.Service) {
	t.Helper()
	recorded := recordedSince(t, db, 0)
	for d, n := range l.deeds {
		if recorded[d] != n {
			t.Errorf("%v was acknowledged %d times and recorded %d times", d, n, recorded[d])
		}
	}
	for d := range recorded {
		if _, known := l.deeds[deed{string(token.Issued), d.id}]; !known {
			t.Errorf("%v was refused and is recorded", d)
		}
	}
	checkTokens(t, s, recorded)
}

// TestReadOnlyStore opens a database that cannot be written.
func TestReadOnlyStore(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, dir string) {
		db, err := store.Open(t.Context(), filepath.Join(dir, "sop.db"))
		if err == nil {
			_ = db.Close()
		}
		wantReason(t, err, "STORE_UNUSABLE")
	}
	t.Run("file system", func(t *testing.T) {
		bound := mount(t, dir, "", unix.MS_BIND, "")
		if err := unix.Mount("", bound, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		refused(t, bound)
	})
	t.Run("mode", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write whatever the mode is")
		}
		path := filepath.Join(dir, "sop.db")
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
		refused(t, dir)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamagedPages damages pages of a database in use, one copy each. The host
// refuses the copy when it is opened, or what cannot be read when it is used; it
// never panics, and a log that was touched does not verify.
func TestDamagedPages(t *testing.T) {
	dir := t.TempDir()
	ctx := token.WithReasons(t.Context())
	db, s, err := tokenService(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	l := ledger{deeds: make(map[deed]int)}
	l.work(ctx, t, s, 10)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	healthy, err := os.ReadFile(filepath.Join(dir, "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	pages := len(healthy) / page
	copies := 16
	if os.Getenv("SOP_TEST_LONG") != "" {
		copies = 4 * pages
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	found := make(map[string]int)
	for i := range copies {
		damaged := bytes.Clone(healthy)
		at := random.IntN(pages) * page
		switch i % 4 {
		case 0: // the header of a page
			damaged[at+random.IntN(12)] ^= byte(1 + random.IntN(255))
		case 1: // a bit anywhere
			damaged[at+random.IntN(page)] ^= 1 << random.IntN(8)
		case 2: // a sector
			clear(damaged[at+512*random.IntN(page/512):][:512])
		case 3: // a page that is another's
			copy(damaged[at:at+page], healthy[random.IntN(pages)*page:])
		}
		found[useDamaged(ctx, t, l.deeds, damaged, fmt.Sprintf("seed %d, copy %d", seed, i))]++
	}
	t.Logf("%d copies with a damaged page of %d: %v", copies, pages, found)
}

// useDamaged works with a damaged database and says what showed.
func useDamaged(ctx context.Context, t *testing.T, deeds map[deed]int, content []byte, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sop.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := audit.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.ParseKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	db, s, err := tokenService(ctx, dir)
	if err != nil {
		return damage(t, name, err)
	}
	defer func() { _ = db.Close() }() // may say so once more
	report, err := audit.VerifyStore(ctx, db.Audit(), verifier)
	if err != nil {
		return damage(t, name, err)
	}
	if report.Fault != nil {
		return "log does not verify"
	}
	for d := range deeds {
		got, err := s.Get(ctx, d.id)
		if sdk.FromError(err) != nil && sdk.FromError(err).Reason == "TOKEN_NOT_FOUND" {
			return "token missing"
		}
		if err != nil {
			return damage(t, name, err)
		}
		if got.State != token.StateRevoked {
			return "token differs"
		}
	}
	fresh := ledger{deeds: make(map[deed]int)}
	if err := fresh.life(ctx, s); err != nil {
		return damage(t, name, err)
	}
	return "nothing"
}

// damage is what an error says of damage.
func damage(t *testing.T, name string, err error) string {
	t.Helper()
	e := sdk.FromError(err)
	if e == nil || e.Remedy == "" && e.Reason != "" {
		t.Errorf("%s: no remedy: %v", name, err)
		return "error"
	}
	if e.Reason == "" {
		return "error: " + err.Error()
	}
	return e.Reason
}
