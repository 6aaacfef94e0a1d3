package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Export writes a run to a directory that exists and is empty: result.json,
// changes.json, changes.diff, and the new content beneath files/.
func (o *Outcome) Export(dir string, set *ChangeSet) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	text, err := o.Diff(set, maxExportedDiff)
	if err != nil {
		return err
	}
	if err := root.WriteFile("changes.diff", []byte(text), 0o600); err != nil {
		return err
	}
	for name, value := range map[string]any{"result.json": o.Result, "changes.json": set} {
		data, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		if err := root.WriteFile(name, append(data, '\n'), 0o600); err != nil {
			return err
		}
	}
	for i := range set.Changes {
		if c := &set.Changes[i]; c.Op == OpAdd || c.Op == OpModify {
			if err := o.exportFile(root, *c); err != nil {
				return err
			}
		}
	}
	return nil
}

const maxExportedDiff = 64 << 20

func (o *Outcome) exportFile(root *os.Root, c Change) (err error) {
	from, err := o.Content(c)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read from
	name := path.Join("files", c.Path)
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	to, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	_, err = io.Copy(to, from)
	return err
}

// Names lists a directory that the run has left in the workspace, sorted.
func (o *Outcome) Names(dir string) ([]string, error) {
	if o.upper == nil {
		return nil, errors.New("the run is closed")
	}
	fd, err := unix.Openat2(int(o.upper.Fd()), dir, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	own := tree{fd}
	defer own.close()
	return own.names()
}

// Open opens a regular file that the run has left in the workspace. It serves
// until Close.
func (o *Outcome) Open(name string) (io.ReadCloser, error) {
	return o.Content(Change{Path: name})
}
