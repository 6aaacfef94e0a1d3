// Package patchfile writes a change set as the text that `git apply` and `git am`
// take, and people read.
//
// It may be imported by patch and integration. It imports sandbox, for change
// sets.
package patchfile

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1" //nolint:gosec // it is how git names objects
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// Options say what a diff is for. The zero value is for programs.
type Options struct {
	// People read it: directories are mentioned, and content that is not text is
	// not shown.
	People bool
	// Limit in bytes after which no further change is written; 0: none.
	Limit int
}

// maxText bounds the files whose lines are compared, in bytes; longer ones are
// written as what is not text is.
const maxText = 1 << 20

// Write writes the changes. before opens what a change replaces, after what it
// puts there.
func Write(to io.Writer, set *sandbox.ChangeSet, before, after sandbox.Content, opt Options) error {
	out := &counter{to: to}
	for i := range set.Changes {
		if opt.Limit > 0 && out.n > opt.Limit {
			_, err := fmt.Fprintf(out, "… and %d more changes\n", len(set.Changes)-i)
			return err
		}
		c := &set.Changes[i]
		if c.OldDir || c.Op == sandbox.OpMkdir {
			if opt.People {
				if _, err := io.WriteString(out, directory(c)); err != nil {
					return err
				}
			}
			continue // git knows no directories
		}
		if err := one(out, c, before, after, opt.People); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
	}
	return nil
}

type counter struct {
	to io.Writer
	n  int
}

// Write implements [io.Writer].
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += n
	return n, err
}

func directory(c *sandbox.Change) string {
	switch c.Op {
	case sandbox.OpMkdir:
		return "new directory " + c.Path + "\n"
	case sandbox.OpDelete:
		return "deleted directory " + c.Path + "\n"
	}
	return fmt.Sprintf("mode of directory %s: %04o → %04o\n", c.Path, c.OldMode, c.Mode)
}

// A side is a file before or after a change.
type side struct {
	there bool
	mode  string // as git writes it
	text  []byte
}

func one(out io.Writer, c *sandbox.Change, before, after sandbox.Content, people bool) error {
	was, now, err := sides(c, before, after)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	header(&b, c, was, now)
	switch {
	case bytes.Equal(was.text, now.text):
	case isText(was.text) && isText(now.text):
		hunks(&b, c.Path, was, now)
	case people:
		fmt.Fprintf(&b, "not text, or over %d bytes: %d bytes → %d bytes\n", maxText, len(was.text), len(now.text))
	default:
		b.WriteString("GIT binary patch\n")
		if err := errors.Join(literal(&b, now.text), literal(&b, was.text)); err != nil {
			return err
		}
	}
	_, err = out.Write(b.Bytes())
	return err
}

func sides(c *sandbox.Change, before, after sandbox.Content) (was, now side, err error) {
	if c.OldSHA256 != "" {
		// A change set does not say whether what goes was a link; all links have this mode.
		wasLink := c.Op == sandbox.OpSymlink || c.Op == sandbox.OpDelete && c.OldMode == 0o777
		was = side{there: true, mode: gitMode(c.OldMode, wasLink)}
		if was.text, err = read(before, c); err != nil {
			return was, now, err
		}
	}
	switch c.Op {
	case sandbox.OpDelete:
	case sandbox.OpSymlink:
		now = side{true, linkMode, []byte(c.Target)}
	case sandbox.OpChmod:
		now = side{true, gitMode(c.Mode, false), was.text}
	default:
		now = side{there: true, mode: gitMode(c.Mode, false)}
		now.text, err = read(after, c)
	}
	return was, now, err
}

func read(from sandbox.Content, c *sandbox.Change) ([]byte, error) {
	r, err := from(*c)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r)
	return text, errors.Join(err, r.Close())
}

const linkMode = "120000"

func gitMode(mode uint32, link bool) string {
	switch {
	case link:
		return linkMode
	case mode&0o100 != 0:
		return "100755"
	}
	return "100644"
}

func header(b *bytes.Buffer, c *sandbox.Change, was, now side) {
	fmt.Fprintf(b, "diff --git %s %s\n", name("a/", c.Path), name("b/", c.Path))
	switch {
	case !was.there:
		fmt.Fprintf(b, "new file mode %s\n", now.mode)
	case !now.there:
		fmt.Fprintf(b, "deleted file mode %s\n", was.mode)
	case was.mode != now.mode:
		fmt.Fprintf(b, "old mode %s\nnew mode %s\n", was.mode, now.mode)
	}
	if bytes.Equal(was.text, now.text) && was.there && now.there {
		return
	}
	fmt.Fprintf(b, "index %s..%s", object(was), object(now))
	if was.there && now.there && was.mode == now.mode {
		b.WriteString(" " + now.mode)
	}
	b.WriteByte('\n')
}

// object is git's name of a file's content.
func object(s side) string {
	if !s.there {
		return strings.Repeat("0", 40)
	}
	h := sha1.New() //nolint:gosec // it is how git names objects
	h.Write(fmt.Appendf(nil, "blob %d\x00", len(s.text)))
	h.Write(s.text)
	return hex.EncodeToString(h.Sum(nil))
}

// name writes a path as git does.
func name(prefix, path string) string {
	if strings.ContainsAny(path, "\"\\\n\t") {
		return strconv.Quote(prefix + path)
	}
	return prefix + path
}

func hunks(b *bytes.Buffer, path string, was, now side) {
	text := diff.Diff("a", was.text, "b", now.text)
	// Its own three lines of header name the files.
	for range 3 {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	fmt.Fprintf(b, "--- %s\n+++ %s\n", end(was, "a/", path), end(now, "b/", path))
	b.Write(text)
}

func end(s side, prefix, path string) string {
	if !s.there {
		return "/dev/null"
	}
	n := name(prefix, path)
	if strings.Contains(n, " ") {
		n += "\t" // so that the name ends there, and not at the space
	}
	return n
}

func isText(text []byte) bool {
	return len(text) <= maxText && utf8.Valid(text) && bytes.IndexByte(text, 0) < 0
}

const (
	lineBytes = 52
	alphabet  = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
)

// literal writes content as git does what is not text: deflated, in lines of at
// most 52 bytes, each with its length as a letter and then in base 85.
func literal(b *bytes.Buffer, content []byte) error {
	fmt.Fprintf(b, "literal %d\n", len(content))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := z.Write(content)
	if err = errors.Join(err, z.Close()); err != nil {
		return err
	}
	for data := packed.Bytes(); len(data) > 0; {
		n := min(len(data), lineBytes)
		if n <= 26 {
			b.WriteByte(byte('A' + n - 1))
		} else {
			b.WriteByte(byte('a' + n - 27))
		}
		base85(b, data[:n])
		b.WriteByte('\n')
		data = data[n:]
	}
	b.WriteByte('\n')
	return nil
}

func base85(b *bytes.Buffer, data []byte) {
	for len(data) > 0 {
		var word uint32
		for i := range 4 {
			word <<= 8
			if i < len(data) {
				word |= uint32(data[i])
			}
		}
		var digits [5]byte
		for i := 4; i >= 0; i-- {
			digits[i] = alphabet[word%85]
			word /= 85
		}
		b.Write(digits[:])
		data = data[min(4, len(data)):]
	}
}
