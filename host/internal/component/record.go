package component

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/process"
)

// record is what the next host is told of an instance, in a file of its component
// that grows with each step; the last whole word in it counts. It is written before
// what it tells of can be lost with this host, and never synced: when the machine
// dies, so does the process.
type record struct {
	Component string           `json:"component"`
	Instance  string           `json:"instance"`
	Process   process.Identity `json:"process,omitzero"` // none before it was started
	Cgroup    string           `json:"cgroup,omitempty"`
	Spec      string           `json:"spec"` // identity of the spec
	Survives  bool             `json:"survives"`
	Ready     bool             `json:"ready"` // it has been
	StartedAt time.Time        `json:"started_at,omitzero"`
	Sandbox   InForce          `json:"sandbox,omitzero"`

	base string // of the names of its files
}

const recordSuffix = ".json"

// ownerOf names all components of one directory.
func ownerOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:8])
}

func newRecord(dir string, i *instance) *record {
	return &record{
		Component: i.spec.Name, Instance: i.id, Cgroup: i.confined.name(), Spec: i.identity, Survives: i.spec.Survives,
		base: filepath.Join(dir, i.spec.Name),
	}
}

// write says in one piece how it stands now. Nothing is replaced: a file that is
// renamed over another is sent to the disk at once by some file systems, and two
// hundred components are then started at the disk's pace.
func (r *record) write() error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := r.base + recordSuffix
	fd, err := openRecord(path)
	if errors.Is(err, unix.ENOENT) { // somebody has removed the directory
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			fd, err = openRecord(path)
		}
	}
	if err == nil {
		err = errors.Join(appendWhole(fd, append(data, '\n')), unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("record component: %w", &os.PathError{Op: "write", Path: path, Err: err})
	}
	return nil
}

func openRecord(path string) (int, error) {
	return unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
}

// appendWhole adds all of a word or, as on a full disk, nothing of it: what comes
// after a part of one would not be read.
func appendWhole(fd int, word []byte) error {
	end, err := unix.Seek(fd, 0, io.SeekEnd)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, word)
	if err == nil && n < len(word) {
		err = unix.ENOSPC
	}
	if err != nil {
		return errors.Join(err, unix.Ftruncate(fd, end))
	}
	return nil
}

// readRecord returns the last whole word of a file of records; false for none.
func readRecord(path string) (*record, bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false // its instance has been put away
	}
	defer func() { _ = f.Close() }() // only read
	var last *record
	for in := json.NewDecoder(f); ; {
		r := &record{base: strings.TrimSuffix(path, recordSuffix)}
		if in.Decode(r) != nil {
			return last, last != nil
		}
		last = r
	}
}

// started notes which process it is.
func (r *record) started(pid int) (err error) {
	if r.Process, err = process.Identify(pid); err != nil {
		return err
	}
	r.StartedAt = time.Now()
	return r.write()
}

// ready notes that it has been ready.
func (r *record) ready() error {
	if r.Ready { // it was another host's
		return nil
	}
	r.Ready = true
	return r.write()
}

// remove removes what the instance had on the disk.
func (r *record) remove() error {
	paths := []string{r.base + recordSuffix, r.notifyPath()}
	if r.Survives {
		paths = append(paths, r.outputPath())
	}
	var failed []error
	for _, path := range paths {
		if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
			failed = append(failed, &os.PathError{Op: "remove", Path: path, Err: err})
		}
	}
	return errors.Join(failed...)
}

func (r *record) outputPath() string { return r.base + ".out" }
func (r *record) notifyPath() string { return r.base + ".notify" }

// openOutput makes the pipe that the component prints into and opens its ends, in
// to read from without blocking and out for the component. That of one that
// survives its host has a name, by which the next host finds it, and is opened for
// both ends by the component: it never finds it broken, and what it prints
// meanwhile waits in it.
func (r *record) openOutput() (in, out *os.File, err error) {
	if r.Survives {
		if out, err = r.makeOutput(); err != nil {
			return nil, nil, err
		}
		if in, err = openToRead(r.outputPath()); err != nil {
			return nil, nil, errors.Join(err, out.Close())
		}
		return in, out, nil
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make component output: %w", err)
	}
	enlarge(ends[1])
	if err := unix.SetNonblock(ends[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(ends[0]), unix.Close(ends[1]))
	}
	return os.NewFile(uintptr(ends[0]), "output of "+r.Component), os.NewFile(uintptr(ends[1]), "output of "+r.Component), nil
}

// openToRead opens a named pipe, whose writer must be open.
func openToRead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// makeOutput makes the named pipe and opens it for both ends.
func (r *record) makeOutput() (*os.File, error) {
	path := r.outputPath()
	err := unix.Mkfifo(path, 0o600)
	if errors.Is(err, unix.EEXIST) { // an earlier instance's, which a process may hold
		err = errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600))
	}
	if err != nil {
		return nil, fmt.Errorf("make component output: %w", err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open component output: %w", err)
	}
	enlarge(fd)
	return os.NewFile(uintptr(fd), path), nil
}

// pipeSize is how much a component may print while nobody reads.
const pipeSize = 1 << 20

func enlarge(pipe int) {
	_, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, pipeSize) // less will do
}

// readRecords returns the records in dir; what is no record is left out.
func readRecords(dir string) ([]*record, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read component records: %w", err)
	}
	var out []*record
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		if r, ok := readRecord(filepath.Join(dir, e.Name())); ok && r.Component == name {
			out = append(out, r)
		}
	}
	return out, nil
}
