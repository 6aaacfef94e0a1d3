package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsimple"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Lock is the content of a lock file: which program each plugin is, and what
// that program described itself to be. It is a value; methods that change it
// return a new one.
type Lock struct {
	entries map[string]LockEntry
}

// LockEntry is what is locked of one plugin.
type LockEntry struct {
	Kind, Name string
	// Hash of the program: "sha256:" and hex.
	Hash string
	// Version that the program stated.
	Version string
	// Schema of the plugin's config block, as the program described it.
	Schema *pluginv1.ConfigSchema
}

// ID is kind and name: "detector.docs".
func (e LockEntry) ID() string { return e.Kind + "." + e.Name }

// lockFile and lockBlock are the HCL form.
type lockFile struct {
	Plugins []lockBlock `hcl:"plugin,block"`
}

type lockBlock struct {
	Kind    string `hcl:"kind,label"`
	Name    string `hcl:"name,label"`
	Hash    string `hcl:"hash"`
	Version string `hcl:"version"`
	Schema  string `hcl:"schema"`
}

const (
	lockHeader = `# Written by "sop plugin lock": the checksum of each plugin's program, and the
# configuration that it accepts. The host starts no program that is not in here.

`
	maxLockFile = 16 << 20 // bytes
)

var hashForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ReadLock reads a lock file. One that does not exist is empty.
func ReadLock(path string) (*Lock, error) {
	l := &Lock{entries: make(map[string]LockEntry)}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, lockError(path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxLockFile {
		return nil, lockError(path, fmt.Errorf("not a regular file of at most %d bytes", maxLockFile))
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, lockError(path, err)
	}
	var f lockFile
	if err := hclsimple.Decode("sop.lock.hcl", src, nil, &f); err != nil {
		return nil, lockError(path, err)
	}
	for _, b := range f.Plugins {
		e := LockEntry{Kind: b.Kind, Name: b.Name, Hash: b.Hash, Version: b.Version, Schema: &pluginv1.ConfigSchema{}}
		if !hashForm.MatchString(b.Hash) {
			return nil, lockError(path, fmt.Errorf("plugin %s: %q is no checksum", e.ID(), clip(b.Hash)))
		}
		if _, ok := l.entries[e.ID()]; ok {
			return nil, lockError(path, fmt.Errorf("plugin %s is locked twice", e.ID()))
		}
		if err := protojson.Unmarshal([]byte(b.Schema), e.Schema); err != nil {
			return nil, lockError(path, fmt.Errorf("plugin %s: schema: %w", e.ID(), err))
		}
		l.entries[e.ID()] = e
	}
	return l, nil
}

func lockError(path string, err error) error {
	return sdk.Errorf(codes.FailedPrecondition, "LOCK_FILE", "lock file %s: %w", path, err).
		WithRemedy("restore the file, or delete it and run `sop plugin lock`")
}

// Entry returns what is locked of the plugin.
func (l *Lock) Entry(id string) (LockEntry, bool) {
	e, ok := l.entries[id]
	return e, ok
}

// IDs returns the locked plugins, sorted.
func (l *Lock) IDs() []string { return slices.Sorted(maps.Keys(l.entries)) }

// With returns l with e in it.
func (l *Lock) With(e LockEntry) *Lock {
	entries := maps.Clone(l.entries)
	entries[e.ID()] = e
	return &Lock{entries: entries}
}

// Without returns l without the plugin.
func (l *Lock) Without(id string) *Lock {
	entries := maps.Clone(l.entries)
	delete(entries, id)
	return &Lock{entries: entries}
}

// Encode returns l as the lock file holds it.
func (l *Lock) Encode() ([]byte, error) {
	var f lockFile
	for _, id := range l.IDs() {
		e := l.entries[id]
		schema, err := protojson.MarshalOptions{}.Marshal(e.Schema)
		if err != nil {
			return nil, fmt.Errorf("encode schema of plugin %s: %w", id, err)
		}
		f.Plugins = append(f.Plugins, lockBlock{
			Kind: e.Kind, Name: e.Name, Hash: e.Hash, Version: e.Version, Schema: compact(schema),
		})
	}
	out := hclwrite.NewEmptyFile()
	gohcl.EncodeIntoBody(&f, out.Body())
	return append([]byte(lockHeader), out.Bytes()...), nil
}

// compact makes protojson's output, whose white space varies by build, stable.
func compact(data []byte) string {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil { // protojson writes valid JSON
		return string(data)
	}
	return b.String()
}

// Write replaces the lock file at path in one step.
func (l *Lock) Write(path string) (err error) {
	data, err := l.Encode()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".sop.lock.*")
	if err != nil {
		return lockError(path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(lockError(path, err), os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
