package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
)

// maxDiffFile bounds the files whose lines are compared, in bytes.
const maxDiffFile = 1 << 20

// Diff writes the changes as a unified diff, for people: what integration takes
// is the change set. It stops when the text is longer than limit bytes.
func (o *Outcome) Diff(set *ChangeSet, limit int) (string, error) {
	var out strings.Builder
	for i := range set.Changes {
		c := &set.Changes[i]
		if out.Len() > limit {
			fmt.Fprintf(&out, "… and %d more changes\n", len(set.Changes)-i)
			break
		}
		if err := o.diffOne(&out, c); err != nil {
			return "", fmt.Errorf("%s: %w", c.Path, err)
		}
	}
	return out.String(), nil
}

func (o *Outcome) diffOne(out *strings.Builder, c *Change) error {
	switch c.Op {
	case OpMkdir:
		fmt.Fprintf(out, "new directory %s\n", c.Path)
		return nil
	case OpChmod:
		fmt.Fprintf(out, "mode of %s: %04o → %04o\n", c.Path, c.OldMode, c.Mode)
		return nil
	case OpSymlink:
		fmt.Fprintf(out, "link %s → %s\n", c.Path, c.Target)
		return nil
	case OpDelete:
		if c.OldDir {
			fmt.Fprintf(out, "deleted directory %s\n", c.Path)
			return nil
		}
	}
	return o.diffFile(out, c)
}

func (o *Outcome) diffFile(out *strings.Builder, c *Change) error {
	was, before, err := o.before(c)
	if err != nil {
		return err
	}
	now, after, err := o.after(c)
	switch {
	case err != nil:
		return err
	case !isText(was) || !isText(now):
		fmt.Fprintf(out, "%s %s: not text, or over %d bytes\n", c.Op, c.Path, maxDiffFile)
	default:
		out.Write(diff.Diff(before, was, after, now))
	}
	return nil
}

const nothing = "/dev/null"

func (o *Outcome) before(c *Change) (text []byte, name string, err error) {
	if c.Op == OpAdd {
		return nil, nothing, nil
	}
	info, err := o.workspace.Lstat(c.Path)
	if err != nil {
		return nil, "", err
	}
	name = "a/" + c.Path
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := o.workspace.Readlink(c.Path)
		return []byte(target), name, err
	}
	if !info.Mode().IsRegular() {
		return nil, name, nil
	}
	file, err := o.workspace.Open(c.Path)
	if err != nil {
		return nil, "", err
	}
	text, err = readSome(file)
	return text, name, err
}

func (o *Outcome) after(c *Change) (text []byte, name string, err error) {
	if c.Op == OpDelete {
		return nil, nothing, nil
	}
	file, err := o.Content(*c)
	if err != nil {
		return nil, "", err
	}
	text, err = readSome(file)
	return text, "b/" + c.Path, err
}

// readSome reads enough to know that a file is too long to be compared.
func readSome(from io.ReadCloser) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxDiffFile+1))
	return text, errors.Join(err, from.Close())
}

func isText(text []byte) bool {
	return len(text) <= maxDiffFile && utf8.Valid(text) && !bytes.ContainsRune(text, 0)
}
