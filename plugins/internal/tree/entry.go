package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Path is a name as it is on disk: bytes. In JSON it is a string, or an object
// with base64 where it is not UTF-8.
type Path string

type base64Path struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements [json.Marshaler].
func (p Path) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) {
		return json.Marshal(string(p))
	}
	return json.Marshal(base64Path{[]byte(p)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Path) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var b base64Path
		err := json.Unmarshal(text, &b)
		*p = Path(b.Base64)
		return err
	}
	return json.Unmarshal(text, (*string)(p))
}

// Beneath says whether p is dir or lies beneath it.
func (p Path) Beneath(dir Path) bool {
	return p == dir || strings.HasPrefix(string(p), string(dir)+"/")
}

// Local says whether p is a plain path beneath a root: no step of it is empty,
// "." or "..".
func (p Path) Local() bool {
	return p != "" && p != "." && p[0] != '/' && path.Clean(string(p)) == string(p) &&
		p != ".." && !strings.HasPrefix(string(p), "../") && !strings.ContainsRune(string(p), 0)
}

// Dir is the directory that p is in; "." for the root.
func (p Path) Dir() Path { return Path(path.Dir(string(p))) }

// Base is the last step of p.
func (p Path) Base() string { return path.Base(string(p)) }

// Text makes UTF-8 of a path, for the fields that take no other.
func (p Path) Text() string { return strings.ToValidUTF8(string(p), "\uFFFD") }

// Octal is the permission bits, set-id and sticky bits included.
type Octal uint32

// MarshalText implements [encoding.TextMarshaler].
func (o Octal) MarshalText() ([]byte, error) {
	if o > 0o7777 {
		return nil, fmt.Errorf("%o is no mode", uint32(o))
	}
	return fmt.Appendf(nil, "%04o", uint32(o)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *Octal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n > 0o7777 {
		return fmt.Errorf("%q is no mode", text)
	}
	*o = Octal(n)
	return nil
}

// Stamp is a time in seconds since 1970 and nanoseconds.
type Stamp [2]int64

// Extent is where in a sparse file there is data: offset and length in bytes.
type Extent [2]int64

// Inode tells files apart, whatever they are called.
type Inode struct{ Dev, Ino uint64 }

// The types of an entry.
const (
	TypeFile    = "file"
	TypeDir     = "dir"
	TypeSymlink = "symlink"
	TypeFifo    = "fifo"
	TypeSocket  = "socket"
	TypeChar    = "chardev"
	TypeBlock   = "blockdev"
)

// Entry is one path of a snapshot.
type Entry struct {
	Path Path   `json:"path"`
	Type string `json:"type"`
	Mode Octal  `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Modified and Accessed are the times that a program can set.
	Modified Stamp `json:"modified"`
	Accessed Stamp `json:"accessed"`
	// Size of a regular file, holes included.
	Size int64 `json:"size,omitempty"`
	// Sparse says that the file has holes, and Extents where there are none.
	Sparse  bool     `json:"sparse,omitempty"`
	Extents []Extent `json:"extents,omitempty"`
	// HardLink is the first path of the snapshot that is the same file.
	HardLink Path `json:"hard_link,omitempty"`
	// Target of a symbolic link.
	Target Path    `json:"target,omitempty"`
	Device uint64  `json:"device,omitempty"`
	Xattrs []Xattr `json:"xattrs,omitempty"`
	// Ancestor says that the directory was not asked for: something beneath it
	// was. It is made where it is missing, and never changed.
	Ancestor bool `json:"ancestor,omitempty"`

	// Object names the content of a regular file for the plugin that stores it.
	Object string `json:"-"`
	// Changed and Inode are as they were when the path was looked at: no program
	// can set them, so what has kept them has not changed.
	Changed Stamp `json:"-"`
	Inode   Inode `json:"-"`
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  Path   `json:"name"`
	Value []byte `json:"value"`
}

// Failure is a path that could not be saved.
type Failure struct {
	Path    Path   `json:"path"`
	Message string `json:"message"`
}

// Stored is how many bytes of the file are no holes.
func (e *Entry) Stored() int64 {
	if !e.Sparse {
		return e.Size
	}
	var n int64
	for _, x := range e.Extents {
		n += x[1]
	}
	return n
}

// Check says what is wrong with an entry that was read from somewhere.
func (e *Entry) Check() error {
	if !e.Path.Local() {
		return fmt.Errorf("%q is no path beneath a root", string(e.Path))
	}
	switch e.Type {
	case TypeFile:
		return e.checkFile()
	case TypeSymlink:
		if e.Target == "" || strings.ContainsRune(string(e.Target), 0) {
			return fmt.Errorf("%q is a symbolic link to nothing", string(e.Path))
		}
	case TypeDir, TypeFifo, TypeSocket, TypeChar, TypeBlock:
	default:
		return fmt.Errorf("%q has the unknown type %q", string(e.Path), e.Type)
	}
	return nil
}

func (e *Entry) checkFile() error {
	if e.Size < 0 {
		return fmt.Errorf("%q has an impossible size", string(e.Path))
	}
	if e.HardLink != "" && !e.HardLink.Local() {
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

// CheckEntries makes sure that no path stands twice, and that nothing lies
// beneath what is no directory: nothing is restored through something else.
func CheckEntries(entries []*Entry) error {
	types := make(map[Path]string, len(entries))
	for _, e := range entries {
		if _, twice := types[e.Path]; twice {
			return fmt.Errorf("%q stands twice", string(e.Path))
		}
		if dir := e.Path.Dir(); dir != "." && types[dir] != TypeDir {
			return fmt.Errorf("%q lies in no directory", string(e.Path))
		}
		if e.HardLink != "" && types[e.HardLink] != TypeFile {
			return fmt.Errorf("%q is linked with what is no file", string(e.Path))
		}
		types[e.Path] = e.Type
	}
	return nil
}

// Orphans moves what lies in a directory that could not be described from the
// entries to the failures.
func Orphans(entries []*Entry, failed []Failure) ([]*Entry, []Failure) {
	dirs := make(map[Path]bool)
	kept := entries[:0]
	for _, e := range entries {
		if dir := e.Path.Dir(); dir != "." && !dirs[dir] {
			failed = append(failed, Failure{e.Path, "its directory could not be saved"})
			continue
		}
		dirs[e.Path] = e.Type == TypeDir
		kept = append(kept, e)
	}
	return kept, failed
}

// EntryOf describes a path from what stat says.
func EntryOf(p Path, st *unix.Stat_t) Entry {
	e := Entry{
		Path: p, Mode: Octal(st.Mode & 0o7777), UID: st.Uid, GID: st.Gid,
		Modified: Stamp{st.Mtim.Sec, st.Mtim.Nsec}, Accessed: Stamp{st.Atim.Sec, st.Atim.Nsec},
		Changed: Stamp{st.Ctim.Sec, st.Ctim.Nsec}, Inode: Inode{st.Dev, st.Ino},
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = TypeFile, st.Size
	case unix.S_IFDIR:
		e.Type = TypeDir
	case unix.S_IFLNK:
		e.Type = TypeSymlink
	case unix.S_IFIFO:
		e.Type = TypeFifo
	case unix.S_IFSOCK:
		e.Type = TypeSocket
	case unix.S_IFCHR:
		e.Type, e.Device = TypeChar, st.Rdev
	case unix.S_IFBLK:
		e.Type, e.Device = TypeBlock, st.Rdev
	}
	return e
}

// NoSpace says whether err means that a disk, or somebody's share of it, is full.
func NoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Reason leaves out the path of an error, which stands beside the message.
func Reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) && errors.Is(pe.Err, unix.ENOENT) {
		return "it does not exist"
	}
	if errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	return err.Error()
}
