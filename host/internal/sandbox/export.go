package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
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
