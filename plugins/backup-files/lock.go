package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// The two locks of a repository. Whoever takes both takes usage first.
const (
	// usageLock is shared by whoever needs objects to stay, and held alone by
	// whoever removes some.
	usageLock = "lock"
	// commitLock is held alone while the list of snapshots changes.
	commitLock = "commit.lock"
)

// lockPatience bounds the wait for a lock.
const lockPatience = 30 * time.Second

// lock is held until release. The kernel releases it when the process dies,
// so that none is ever stale; its file says who holds it alone, for people.
type lock struct {
	file  *os.File
	alone bool
}

// owner is who holds a lock alone.
type owner struct {
	PID int `json:"pid"`
	// Start is when the process was started, in ticks since boot: it tells the
	// process from a later one with the same id.
	Start uint64    `json:"start"`
	Since time.Time `json:"since"`
}

// lock waits for a lock, at most [lockPatience]. how is LOCK_SH or LOCK_EX;
// with LOCK_NB it does not wait.
func (r *repository) lock(ctx context.Context, name string, how int) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, ioError("open the lock of the repository", err)
	}
	if err := r.await(ctx, f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &lock{file: f, alone: how&unix.LOCK_EX != 0}
	if l.alone && name == usageLock {
		l.sign()
	}
	return l, nil
}

func (r *repository) await(ctx context.Context, f *os.File, how int) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil || errors.Is(err, unix.EINTR) {
			if err == nil {
				return nil
			}
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return ioError("lock the repository", err)
		}
		if how&unix.LOCK_NB != 0 {
			return busy(f)
		}
		select {
		case <-ctx.Done():
			return busy(f)
		case <-time.After(wait):
		}
	}
}

func busy(f *os.File) error {
	return sdk.Errorf(codes.Aborted, "REPOSITORY_BUSY", "the repository is in use by %s", holder(f)).RetryIn(time.Second)
}

// sign notes who holds the lock. It is for people: that it fails, as on a full
// disk, changes nothing.
func (l *lock) sign() {
	start, _ := startTime(os.Getpid())
	text, err := json.Marshal(owner{os.Getpid(), start, time.Now().UTC()})
	if err != nil || l.file.Truncate(0) != nil {
		return
	}
	_, _ = l.file.WriteAt(text, 0)
}

// holder describes who holds the lock, as far as its file says.
func holder(f *os.File) string {
	var o owner
	text := make([]byte, 256)
	n, _ := f.ReadAt(text, 0)
	if json.Unmarshal(text[:n], &o) != nil {
		return "another save, restore or verification"
	}
	start, err := startTime(o.PID)
	if err != nil || start != o.Start {
		return "a process that cannot be seen from here"
	}
	return fmt.Sprintf("process %d since %s", o.PID, o.Since.Format(time.RFC3339))
}

// startTime is when a process was started, in ticks since boot.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may hold anything.
	_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), ")")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, errors.New("unknown form of /proc/PID/stat")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// release is for a defer; closing the file releases the lock.
func (l *lock) release() {
	if l.alone {
		_ = l.file.Truncate(0) // nobody's name: it is for people only
	}
	_ = l.file.Close()
}
