package startup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/socket"
	"github.com/sop-host/sop/sdk"
)

// dataDir is the directory that holds all of the host's state.
type dataDir string

func (d dataDir) join(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

func (d dataDir) database() string { return d.join("state", "sop.db") }
func (d dataDir) socket() string   { return socket.Path(string(d)) }
func (d dataDir) tokenKey() string { return d.join("state", "token.key") }
func (d dataDir) agentKey() string { return d.join("state", "agent.key") }
func (d dataDir) rootCredential() string {
	return d.join("state", "root.credential")
}
func (d dataDir) lockFile() string { return d.join("state", "host.lock") }
func (d dataDir) log() string      { return d.join("logs", "host.log") }
func (d dataDir) timeline() string { return d.join("logs", "activation.jsonl") }
func (d dataDir) run() string      { return d.join("run") }

// scratch is where what is restored, only to be looked at, is put.
func (d dataDir) scratch() string { return d.join("file_management", "scratch") }

// patches holds the content of patches, and patchFiles those that are written for
// people to apply.
func (d dataDir) patches() string    { return d.join("file_management", "patches") }
func (d dataDir) patchFiles() string { return d.join("file_management", "patch_files") }

// pluginState is the lasting directory of one plugin.
func (d dataDir) pluginState(id string) string { return d.join("state", "plugins", id) }

// create makes the directories, for the owner alone.
func (d dataDir) create() error {
	for _, dir := range []string{string(d), d.join("state"), d.join("logs"), d.join("file_management")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return sdk.Errorf(codes.FailedPrecondition, "DATA_DIR", "make data directory: %w", err).
				WithRemedy("set host.data_dir to a directory that this user may write to")
		}
	}
	return nil
}

// complete says that the database is not there though it once was: the key of the
// audit log is made after it. To go on with none would forget every token, agent and
// record, and sign a second log with the key of the first.
func (d dataDir) complete() error {
	if isGone(d.join("state", audit.KeyFile)) {
		return nil
	}
	info, err := os.Stat(d.database())
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0:
		return sdk.Errorf(codes.FailedPrecondition, "STORE_MISSING", "the database is gone: %s; the key of its audit log is there", d.database()).
			WithRemedy("restore it from a backup; or move %s and %s away, too, to begin with nothing and under a new key", audit.KeyFile, audit.PublicKeyFile)
	case err != nil:
		return sdk.Errorf(codes.FailedPrecondition, "DATA_DIR", "look for the database: %w", err).
			WithRemedy("make %s readable for the user that runs sop", d.join("state"))
	}
	return nil
}

// isGone says that nothing is at path.
func isGone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// acquire makes sure that one host alone works in the directory: it returns
// what releases it.
func (d dataDir) acquire() (release func() error, err error) {
	f, err := os.OpenFile(d.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable("open host lock", err)
	}
	if err := takeLock(f, func() bool { return lives(holderOf(f)) }); err != nil {
		return nil, errors.Join(
			sdk.Errorf(codes.AlreadyExists, "HOST_RUNNING", "a host already runs on %s (pid %d)", string(d), holderOf(f)).
				WithRemedy("use the one that runs (`sop status`), or set another host.data_dir"),
			f.Close())
	}
	dir, err := d.lockState()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(unusable("write host lock", err), f.Close(), dir.Close())
	}
	return func() error { return errors.Join(f.Close(), dir.Close()) }, nil
}

// lockState locks the directory of the state as well: the file with the number of the
// process can be removed by who takes it for a leftover, and two hosts on one database
// would not know of each other's revocations.
func (d dataDir) lockState() (*os.File, error) {
	dir, err := os.Open(d.join("state"))
	if err != nil {
		return nil, unusable("open the directory of the state", err)
	}
	if err := takeLock(dir, func() bool { return false }); errors.Is(err, syscall.EWOULDBLOCK) {
		err := sdk.Errorf(codes.AlreadyExists, "HOST_RUNNING", "a host already runs on %s; its lock file %s was removed", string(d), d.lockFile()).
			WithRemedy("find the process and stop it, and start it again: fuser -v %s", d.join("state"))
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil // a file system that cannot lock directories has the file
}

// unusable says that nothing can be written to the data directory that is there.
func unusable(doing string, cause error) error {
	return sdk.Errorf(codes.FailedPrecondition, "DATA_DIR", "%s: %w", doing, cause).
		WithRemedy("make the data directory and its file system writable for this user, with room, or set another host.data_dir")
}

// releaseTime is more than a host that was killed takes to let go of its lock: a
// process that it was just starting has it until it executes its program.
const releaseTime = 2 * time.Second

// dyingTime is more than a host takes to be gone that was killed a moment ago.
const dyingTime = 300 * time.Millisecond

// takeLock locks a file, at once or as soon as what a killed host has left lets
// go of it. For a host that lives it waits no longer than one takes to die.
func takeLock(f *os.File, lives func() bool) error {
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		waited := time.Since(begin)
		if !errors.Is(err, syscall.EWOULDBLOCK) || waited > releaseTime || waited > dyingTime && lives() {
			return err
		}
	}
}

// lives says whether there is such a process that has not ended; one that nobody knows
// the number of may be there.
func lives(pid int) bool {
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return pid <= 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, found := strings.Cut(string(stat), ") ") // a name in brackets is before
	return err != nil || !found || !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// holderOf is the process id that a lock file names, 0 if it names none.
func holderOf(f *os.File) int {
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0) // what cannot be read names nobody
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	return pid
}

func writePID(f *os.File) error {
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

// open lets those pass through to the socket who may call by it, and nobody look
// around; group is a group id, or -1 for none. All that lies there has modes of
// its own.
func (d dataDir) open(mode os.FileMode, group int) error {
	through := os.FileMode(0o700) | mode&0o066>>1&0o011
	if group < 0 {
		group = os.Getegid()
	}
	for _, dir := range []string{string(d), d.join("state")} {
		if err := errors.Join(os.Lchown(dir, -1, group), os.Chmod(dir, through)); err != nil {
			return fmt.Errorf("open the way to the socket: %w", err)
		}
	}
	return nil
}
