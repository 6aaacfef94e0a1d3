package startup

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// A data directory that cannot be written to is named, with what to do.
func TestLockThatCannotBeWritten(t *testing.T) {
	d := dataDir(t.TempDir())
	if err := os.MkdirAll(d.lockFile(), 0o700); err != nil { // also root cannot write a directory
		t.Fatal(err)
	}
	_, err := d.acquire()
	if e := sdk.FromError(err); e == nil || e.Reason != "DATA_DIR" || e.Remedy == "" || !strings.Contains(e.Message, d.lockFile()) {
		t.Errorf("got %+v", e)
	}
}

// The lock of a host that was killed may be held for a moment by what it was just
// starting: the next host waits for that, but not for a host that lives.
func TestLockOfAKilledHost(t *testing.T) {
	d := dataDir(t.TempDir())
	if err := os.MkdirAll(d.join("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(d.lockFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), "cat") // until its input ends
	child.ExtraFiles = []*os.File{lock}
	input, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(pid int) {
		if err := os.WriteFile(d.lockFile(), []byte(strconv.Itoa(pid)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write(os.Getpid())
	if _, err := d.acquire(); err == nil {
		t.Fatal("the lock of a living host was taken")
	}

	gone := exec.CommandContext(t.Context(), "true")
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	// It has ended, and whoever started it has not heard of it yet.
	if err := unix.Waitid(unix.P_PID, gone.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if lives(gone.Process.Pid) || !lives(os.Getpid()) || !lives(0) {
		t.Error("who lives is not known")
	}
	write(gone.Process.Pid)
	acquired := make(chan error, 1)
	go func() {
		release, err := d.acquire()
		if err == nil {
			err = release()
		}
		acquired <- err
	}()
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-acquired; err != nil {
		t.Error(err)
	}
	if err := errors.Join(child.Wait(), gone.Wait()); err != nil {
		t.Error(err)
	}
}

// A host whose database is gone does not begin another, unless it is told to by
// the key of its log being gone, too.
func TestDatabaseThatIsGone(t *testing.T) {
	s := newSite(t)
	d := dataDir(filepath.Join(s.dir, "data"))
	s.lock()
	s.start()
	s.end()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(d.database() + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for _, left := range []func() error{
		func() error { return nil },
		func() error { return os.WriteFile(d.database(), nil, 0o600) },
	} {
		if err := left(); err != nil {
			t.Fatal(err)
		}
		err := Run(t.Context(), Options{ConfigPath: s.config})
		if e := sdk.FromError(err); e == nil || e.Reason != "STORE_MISSING" || e.Remedy == "" {
			t.Fatalf("got %v", err)
		}
		if info, err := os.Stat(d.database()); err == nil && info.Size() > 0 {
			t.Errorf("a database was made, of %d bytes", info.Size())
		}
	}
	for _, name := range []string{audit.KeyFile, audit.PublicKeyFile} {
		if err := os.Remove(d.join("state", name)); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
}

// That a key is made anew is on record where it ends anything.
func TestKeysMadeAnew(t *testing.T) {
	s := newSite(t)
	d := dataDir(filepath.Join(s.dir, "data"))
	s.lock()
	s.start()
	_, err := apiv1connect.NewTokenClient(s.http(), "http://sop").IssueToken(t.Context(), connect.NewRequest(&apiv1.IssueTokenRequest{
		Spec: &apiv1.TokenSpec{Type: "todo", Operations: []string{"op"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.end()
	for _, path := range []string{d.tokenKey(), d.agentKey()} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	s.end()
	db, err := store.OpenReadOnly(t.Context(), d.database())
	if err != nil {
		t.Fatal(err)
	}
	page, err := db.Audit().List(t.Context(), audit.Filter{Action: "host.rekey", Oldest: true})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range page.Records {
		keys = append(keys, r.Attributes["key"])
	}
	if want := []string{"token.key", "agent.key"}; !slices.Equal(keys, want) {
		t.Errorf("recorded %q, want %q", keys, want)
	}
}
