package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// rawPath is a name as it is on disk: bytes. In JSON it is a string, or an
// object with base64 where it is not UTF-8.
type rawPath string

type base64Path struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements [json.Marshaler].
func (p rawPath) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) {
		return json.Marshal(string(p))
	}
	return json.Marshal(base64Path{[]byte(p)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *rawPath) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var b base64Path
		err := json.Unmarshal(text, &b)
		*p = rawPath(b.Base64)
		return err
	}
	return json.Unmarshal(text, (*string)(p))
}

// beneath says whether p is dir or lies beneath it.
func (p rawPath) beneath(dir rawPath) bool {
	return p == dir || strings.HasPrefix(string(p), string(dir)+"/")
}

// local says whether p is a plain path beneath a root: no step of it is empty,
// "." or "..".
func (p rawPath) local() bool {
	return p != "" && p != "." && p[0] != '/' && path.Clean(string(p)) == string(p) &&
		p != ".." && !strings.HasPrefix(string(p), "../") && !strings.ContainsRune(string(p), 0)
}

// octal is the permission bits, set-id and sticky bits included.
type octal uint32

// MarshalText implements [encoding.TextMarshaler].
func (o octal) MarshalText() ([]byte, error) {
	if o > 0o7777 {
		return nil, fmt.Errorf("%o is no mode", uint32(o))
	}
	return fmt.Appendf(nil, "%04o", uint32(o)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *octal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n > 0o7777 {
		return fmt.Errorf("%q is no mode", text)
	}
	*o = octal(n)
	return nil
}

// stamp is a time in seconds since 1970 and nanoseconds.
type stamp [2]int64

// extent is where in a sparse file there is data: offset and length in bytes.
type extent [2]int64

// The types of an entry.
const (
	typeFile    = "file"
	typeDir     = "dir"
	typeSymlink = "symlink"
	typeFifo    = "fifo"
	typeSocket  = "socket"
	typeChar    = "chardev"
	typeBlock   = "blockdev"
)

// entry is one path of a snapshot.
type entry struct {
	Path rawPath `json:"path"`
	Type string  `json:"type"`
	Mode octal   `json:"mode"`
	UID  uint32  `json:"uid"`
	GID  uint32  `json:"gid"`
	// Modified and Accessed are the times that a program can set.
	Modified stamp `json:"modified"`
	Accessed stamp `json:"accessed"`
	// Size of a regular file, holes included.
	Size int64 `json:"size,omitempty"`
	// SHA256 names the object with a regular file's content: of all of it, or
	// of its extents one after the other if it has holes.
	SHA256 digest `json:"sha256,omitempty"`
	// Sparse says that the file has holes, and Extents where there are none.
	Sparse  bool     `json:"sparse,omitempty"`
	Extents []extent `json:"extents,omitempty"`
	// HardLink is the first path of the snapshot that is the same file.
	HardLink rawPath `json:"hard_link,omitempty"`
	// Target of a symbolic link.
	Target rawPath `json:"target,omitempty"`
	Device uint64  `json:"device,omitempty"`
	Xattrs []xattr `json:"xattrs,omitempty"`
	// Ancestor says that the directory was not asked for: something beneath it
	// was. It is made where it is missing, and never changed.
	Ancestor bool `json:"ancestor,omitempty"`
}

type xattr struct {
	Name  rawPath `json:"name"`
	Value []byte  `json:"value"`
}

// stored is how many bytes the object of the entry has.
func (e *entry) stored() int64 {
	if !e.Sparse {
		return e.Size
	}
	var n int64
	for _, x := range e.Extents {
		n += x[1]
	}
	return n
}

// check says what is wrong with an entry; nobody but [parseManifest] need ask.
func (e *entry) check() error {
	if !e.Path.local() {
		return fmt.Errorf("%q is no path beneath a root", string(e.Path))
	}
	switch e.Type {
	case typeFile:
		return e.checkFile()
	case typeSymlink:
		if e.Target == "" || strings.ContainsRune(string(e.Target), 0) {
			return fmt.Errorf("%q is a symbolic link to nothing", string(e.Path))
		}
	case typeDir, typeFifo, typeSocket, typeChar, typeBlock:
	default:
		return fmt.Errorf("%q has the unknown type %q", string(e.Path), e.Type)
	}
	return nil
}

func (e *entry) checkFile() error {
	if !e.SHA256.valid() || e.Size < 0 {
		return fmt.Errorf("%q has no object", string(e.Path))
	}
	if e.HardLink != "" && !e.HardLink.local() {
		return fmt.Errorf("%q is linked with something that is no path", string(e.Path))
	}
	var end int64
	for _, x := range e.Extents {
		if !e.Sparse || x[0] < end || x[1] <= 0 || x[1] > e.Size-x[0] {
			return fmt.Errorf("%q has impossible extents", string(e.Path))
		}
		end = x[0] + x[1]
	}
	return nil
}

// failure is a path that could not be saved.
type failure struct {
	Path    rawPath `json:"path"`
	Message string  `json:"message"`
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
	Root      rawPath           `json:"root"`
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
	Excluded []rawPath `json:"excluded,omitempty"`
}

// manifest describes a snapshot.
type manifest struct {
	header
	entries  []entry
	failures []failure
	// sum is the SHA-256 of everything before the last line.
	sum digest
}

// line is any line of a manifest but the first.
type line struct {
	Entry   *entry   `json:"entry,omitempty"`
	Failure *failure `json:"failure,omitempty"`
	End     *end     `json:"end,omitempty"`
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
		if err := enc.Encode(line{Entry: &m.entries[i]}); err != nil {
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
	return m, m.checkLinks()
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
		if err := l.Entry.check(); err != nil {
			return err
		}
		m.entries = append(m.entries, *l.Entry)
	case l.Failure != nil:
		m.failures = append(m.failures, *l.Failure)
	default:
		return errors.New("a line says nothing")
	}
	return nil
}

// checkLinks makes sure that no path stands twice, and that nothing lies
// beneath what is no directory: nothing is restored through something else.
func (m *manifest) checkLinks() error {
	types := make(map[rawPath]string, len(m.entries))
	for i := range m.entries {
		e := &m.entries[i]
		if _, twice := types[e.Path]; twice {
			return fmt.Errorf("%q stands twice", string(e.Path))
		}
		if dir := rawPath(path.Dir(string(e.Path))); dir != "." && types[dir] != typeDir {
			return fmt.Errorf("%q lies in no directory", string(e.Path))
		}
		if e.HardLink != "" && types[e.HardLink] != typeFile {
			return fmt.Errorf("%q is linked with what is no file", string(e.Path))
		}
		types[e.Path] = e.Type
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
