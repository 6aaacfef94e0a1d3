package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sop-host/sop/plugins/internal/tree"
)

// entry is one path of a snapshot, as a line of the manifest has it.
type entry struct {
	*tree.Entry
	// SHA256 names the object with a regular file's content: of all of it, or
	// of its extents one after the other if it has holes.
	SHA256 digest `json:"sha256,omitempty"`
}

// entryOf makes the line of an entry.
func entryOf(e *tree.Entry) *entry { return &entry{e, digest(e.Object)} }

// take is the entry of a line; it says what is wrong with it.
func (e *entry) take() (*tree.Entry, error) {
	if e.Entry == nil {
		return nil, errors.New("an entry says nothing")
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	if e.Type == tree.TypeFile && !e.SHA256.valid() {
		return nil, fmt.Errorf("%q has no object", string(e.Path))
	}
	e.Object = string(e.SHA256)
	return e.Entry, nil
}

// link names a snapshot by what cannot be forged.
type link struct {
	ID     string `json:"id"`
	SHA256 digest `json:"sha256"`
}

// header is the first line of a manifest.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	ID      string `json:"id"`
	// Seq counts snapshots from 1; it orders them whatever the clock says.
	Seq       uint64            `json:"seq"`
	CreatedAt time.Time         `json:"created_at"`
	Root      tree.Path         `json:"root"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Parent is the snapshot before; nil for the first.
	Parent *link `json:"parent,omitempty"`
	// Files and Bytes count regular files, and Stored what was written for them.
	Files  int64 `json:"files"`
	Bytes  int64 `json:"bytes"`
	Stored int64 `json:"stored"`
	// Failures counts the lines that are failures.
	Failures int `json:"failures"`
	// Excluded is what was left out as asked, and where beneath the root the
	// repository itself is.
	Excluded []tree.Path `json:"excluded,omitempty"`
}

// manifest describes a snapshot.
type manifest struct {
	header
	entries  []*tree.Entry
	failures []tree.Failure
	// sum is the SHA-256 of everything before the last line.
	sum digest
}

// line is any line of a manifest but the first.
type line struct {
	Entry   *entry        `json:"entry,omitempty"`
	Failure *tree.Failure `json:"failure,omitempty"`
	End     *end          `json:"end,omitempty"`
}

// end is the last line.
type end struct {
	SHA256 digest `json:"sha256"`
}

// maxLine bounds a line of a manifest, in bytes: a file with very many extents
// or large extended attributes.
const maxLine = 64 << 20

// encode makes the text of a manifest and sets its sum.
func (m *manifest) encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	m.Format, m.Version, m.Failures = formatName, formatVersion, len(m.failures)
	if err := enc.Encode(m.header); err != nil {
		return nil, err
	}
	for i := range m.entries {
		if err := enc.Encode(line{Entry: entryOf(m.entries[i])}); err != nil {
			return nil, err
		}
	}
	for i := range m.failures {
		if err := enc.Encode(line{Failure: &m.failures[i]}); err != nil {
			return nil, err
		}
	}
	m.sum = digestOf(out.Bytes())
	err := enc.Encode(line{End: &end{m.sum}})
	return out.Bytes(), err
}

// parseManifest reads a manifest. It accepts none whose last line does not
// match what is before it.
func parseManifest(text []byte) (*manifest, error) {
	body, last, err := splitEnd(text)
	if err != nil {
		return nil, err
	}
	m := &manifest{sum: digestOf(body)}
	if last.SHA256 != m.sum {
		return nil, errors.New("its checksum does not match")
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	if m.header, err = parseHeader(lines[0]); err != nil {
		return nil, err
	}
	for _, text := range lines[1:] {
		if err := m.take(text); err != nil {
			return nil, err
		}
	}
	if m.Failures != len(m.failures) {
		return nil, errors.New("failures are missing")
	}
	return m, tree.CheckEntries(m.entries)
}

// splitEnd separates the last line.
func splitEnd(text []byte) (body []byte, last *end, err error) {
	trimmed, ok := bytes.CutSuffix(text, []byte("\n"))
	at := bytes.LastIndexByte(trimmed, '\n')
	if !ok || at < 0 {
		return nil, nil, errors.New("its end is missing")
	}
	var l line
	if err := json.Unmarshal(trimmed[at+1:], &l); err != nil || l.End == nil {
		return nil, nil, errors.New("its end is missing")
	}
	return text[:at+1], l.End, nil
}

func parseHeader(text []byte) (header, error) {
	var h header
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("its first line: %w", err)
	}
	switch {
	case h.Format != formatName || h.Version != formatVersion:
		return h, fmt.Errorf("its form is %s/%d", h.Format, h.Version)
	case h.Seq == 0 || seqOf(h.ID) != h.Seq:
		return h, fmt.Errorf("its id is %q", h.ID)
	case h.Parent != nil && (seqOf(h.Parent.ID) == 0 || seqOf(h.Parent.ID) >= h.Seq || !h.Parent.SHA256.valid()):
		return h, errors.New("its parent is impossible")
	}
	return h, nil
}

// take adds what one line says.
func (m *manifest) take(text []byte) error {
	if len(text) > maxLine {
		return errors.New("a line is too long")
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	switch {
	case l.Entry != nil:
		e, err := l.Entry.take()
		if err != nil {
			return err
		}
		m.entries = append(m.entries, e)
	case l.Failure != nil:
		m.failures = append(m.failures, *l.Failure)
	default:
		return errors.New("a line says nothing")
	}
	return nil
}

// newID names the snapshot with a number, so that names sort as they were made.
func newID(seq uint64) string { return fmt.Sprintf("%012d-%s", seq, token(4)) }

// seqOf is the number in an id; 0 if it is none.
func seqOf(id string) uint64 {
	digits, random, ok := strings.Cut(id, "-")
	if !ok || len(digits) != 12 || len(random) != 8 || strings.Trim(random, "0123456789abcdef") != "" {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0
	}
	return n
}
