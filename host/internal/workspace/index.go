package workspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// trackedPaths are the paths in git's index, sorted and relative to the top of the work tree. Submodules and the
// directory entries of a sparse index are left out.
type trackedPaths []string

func (t trackedPaths) has(path string) bool {
	_, found := slices.BinarySearch(t, path)
	return found
}

// hasBelow reports whether a path starts with dir, which ends in a slash.
func (t trackedPaths) hasBelow(dir string) bool {
	i := sort.SearchStrings(t, dir)
	return i < len(t) && strings.HasPrefix(t[i], dir)
}

var (
	errIndexFormat = errors.New("not a git index, or a damaged one")
	errSplitIndex  = errors.New("a split index is not supported")
)

const (
	indexHeaderLen = 12
	indexStatLen   = 40 // ctime to size, before the object name
	indexModeAt    = 24
	modeTypeMask   = 0o170000
	modeTree       = 0o040000
	modeGitlink    = 0o160000
	flagExtended   = 0x4000
)

// parseIndex reads the paths of an index of version 2, 3 or 4. hashLen is 20, or 32 in a sha256 repository.
func parseIndex(data []byte, hashLen int) (trackedPaths, error) {
	if len(data) < indexHeaderLen+hashLen || string(data[:4]) != "DIRC" {
		return nil, errIndexFormat
	}
	version := binary.BigEndian.Uint32(data[4:])
	count := int(binary.BigEndian.Uint32(data[8:]))
	if version < 2 || version > 4 {
		return nil, fmt.Errorf("index version %d is not supported", version)
	}
	body := data[indexHeaderLen : len(data)-hashLen]
	if count > len(body)/(indexStatLen+hashLen) {
		return nil, errIndexFormat
	}
	p := indexParser{rest: body, version: version, fixedLen: indexStatLen + hashLen + 2}
	paths := make(trackedPaths, 0, count)
	for range count {
		listed, err := p.entry()
		if err != nil {
			return nil, err
		}
		if listed {
			paths = append(paths, string(p.name))
		}
	}
	if err := p.extensions(); err != nil {
		return nil, err
	}
	if !slices.IsSorted(paths) {
		return nil, errIndexFormat
	}
	return slices.Compact(paths), nil // a path in conflict has up to three entries
}

type indexParser struct {
	rest     []byte
	version  uint32
	fixedLen int
	name     []byte // of the entry read last; version 4 builds on it
}

// entry reads one entry into p.name and reports whether it is a file or a link.
func (p *indexParser) entry() (bool, error) {
	if len(p.rest) < p.fixedLen {
		return false, errIndexFormat
	}
	mode := binary.BigEndian.Uint32(p.rest[indexModeAt:])
	flags := binary.BigEndian.Uint16(p.rest[p.fixedLen-2:])
	nameAt := p.fixedLen
	if p.version >= 3 && flags&flagExtended != 0 {
		nameAt += 2
	}
	if len(p.rest) < nameAt {
		return false, errIndexFormat
	}
	name := p.rest[nameAt:]
	keep := 0
	if p.version == 4 {
		strip, n := indexVarint(name)
		if n == 0 || strip > len(p.name) {
			return false, errIndexFormat
		}
		keep, nameAt, name = len(p.name)-strip, nameAt+n, name[n:]
	}
	end := bytes.IndexByte(name, 0)
	if end < 0 {
		return false, errIndexFormat
	}
	p.name = append(p.name[:keep], name[:end]...)
	size := nameAt + end + 1
	if p.version < 4 {
		size = (nameAt + end + 8) &^ 7 // one to eight NULs, up to a multiple of eight
	}
	if size > len(p.rest) {
		return false, errIndexFormat
	}
	p.rest = p.rest[size:]
	kind := mode & modeTypeMask
	return kind != modeGitlink && kind != modeTree, nil
}

// indexVarint reads the offset encoding that version 4 shares with pack files; n is 0 when it is damaged.
func indexVarint(b []byte) (value, n int) {
	for n < len(b) && n < 5 {
		c := b[n]
		if n > 0 {
			value++
		}
		value = value<<7 | int(c&0x7f)
		n++
		if c&0x80 == 0 {
			return value, n
		}
	}
	return 0, 0
}

// extensions passes over what follows the entries, looking for the one that says that entries are elsewhere.
func (p *indexParser) extensions() error {
	for len(p.rest) >= 8 {
		if string(p.rest[:4]) == "link" {
			return errSplitIndex
		}
		size := binary.BigEndian.Uint32(p.rest[4:])
		if uint64(size) > uint64(len(p.rest)-8) {
			return errIndexFormat
		}
		p.rest = p.rest[8+size:]
	}
	return nil
}
