package component

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/process"
)

// record is what the next host is told of an instance, in a file of the
// component's private directory. It is written before what it tells of can be
// lost with this host, and never synced: when the machine dies, so does the
// process.
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

	dir string
}

const recordName = "record.json"

// ownerOf names all components of one directory.
func ownerOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:8])
}

func newRecord(dir string, i *instance) *record {
	return &record{
		Component: i.spec.Name, Instance: i.id, Cgroup: i.confined.name(), Spec: i.identity, Survives: i.spec.Survives,
		dir: filepath.Join(dir, i.spec.Name),
	}
}

// write replaces the file.
func (r *record) write() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make component directory: %w", err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, recordName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("record component: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record component: %w", err)
	}
	return nil
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
	r.Ready = true
	return r.write()
}

// remove removes the directory.
func (r *record) remove() error { return os.RemoveAll(r.dir) }

func (r *record) outputPath() string { return filepath.Join(r.dir, "out") }
func (r *record) notifyPath() string { return filepath.Join(r.dir, "notify") }

// makeOutput makes the named pipe that the component prints into, and opens it
// for both ends: a component that survives its host never finds it broken, and
// what it prints meanwhile waits in it.
func (r *record) makeOutput() (*os.File, error) {
	path := r.outputPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make component output: %w", err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open component output: %w", err)
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) // less will do
	return os.NewFile(uintptr(fd), path), nil
}

// pipeSize is how much a component may print while nobody reads.
const pipeSize = 1 << 20

// readRecords returns the records in dir; what is no record is left out.
func readRecords(dir string) ([]*record, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read component records: %w", err)
	}
	var out []*record
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name(), recordName))
		if err != nil {
			continue // its instance was not begun, or has been put away
		}
		r := &record{dir: filepath.Join(dir, e.Name())}
		if json.Unmarshal(data, r) == nil && r.Component == e.Name() {
			out = append(out, r)
		}
	}
	return out, nil
}
