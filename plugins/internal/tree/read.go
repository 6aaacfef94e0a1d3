package tree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrChanged says that a file was written while it was read.
var ErrChanged = errors.New("it changed while it was read")

// readTries is how often a file that changes is read.
const readTries = 4

// Fresh is how young a change must be for the file to be read twice: a clock
// that ticks slowly, and a write that takes long, hide that it is going on.
const Fresh = 2 * time.Second

// maxExtents bounds the extents of a file; holes beyond it are stored as zeros.
const maxExtents = 1 << 16

// copyBuffer is how many bytes are read at a time.
const copyBuffer = 256 << 10

// tooLargeError is the error of a file that exceeds the limit.
type tooLargeError struct{ limit int64 }

// Error implements [error].
func (t tooLargeError) Error() string {
	return fmt.Sprintf("it has more than the %d bytes that max_file_size allows", t.limit)
}

// Content takes the data of a file while it is read: the extents one after the
// other where it has holes.
type Content interface {
	io.Writer
	// Discard gives up what was written.
	Discard()
}

// Reader reads regular files.
type Reader struct {
	Tree *Tree
	// Limit is the most bytes of a file.
	Limit int64
}

// Read describes one regular file and copies its data to what begin makes; on
// success that is what was made last. It fails with [ErrChanged] rather than
// hand over a content that the file never had.
func Read[C Content](r *Reader, p Path, begin func(*Entry) C) (e Entry, content C, err error) {
	for range readTries {
		e, content, err = readOnce(r, p, begin)
		if !errors.Is(err, ErrChanged) {
			break
		}
	}
	return e, content, err
}

func readOnce[C Content](r *Reader, p Path, begin func(*Entry) C) (e Entry, content C, err error) {
	f, err := r.Tree.open(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return e, content, err
	}
	defer f.Close() //nolint:errcheck // it was read only
	before, err := stat(f)
	if err != nil {
		return e, content, err
	}
	if e = EntryOf(p, &before); e.Type != TypeFile {
		return e, content, ErrChanged
	}
	if e.Xattrs, err = readXattrs(f); err != nil {
		return e, content, err
	}
	if err := r.layout(f, &e); err != nil {
		return e, content, err
	}
	content = begin(&e)
	if err := copyWhole(content, f, &e, &before); err != nil {
		content.Discard()
		return e, content, err
	}
	return e, content, nil
}

// copyWhole copies the content, and fails when it changed meanwhile.
func copyWhole(w io.Writer, f *os.File, e *Entry, before *unix.Stat_t) error {
	fresh := time.Since(time.Unix(before.Ctim.Unix())) < Fresh
	sum := sha256.New()
	if fresh {
		w = io.MultiWriter(w, sum)
	}
	err := copyData(w, f, e)
	if err == nil {
		err = unchanged(f, before)
	}
	if err == nil && fresh {
		err = again(f, e, before, sum)
	}
	return err
}

// again reads the content a second time and compares.
func again(f *os.File, e *Entry, before *unix.Stat_t, first hash.Hash) error {
	second := sha256.New()
	if err := copyData(second, f, e); err != nil {
		return err
	}
	if string(first.Sum(nil)) != string(second.Sum(nil)) {
		return ErrChanged
	}
	return unchanged(f, before)
}

// unchanged compares a file with what it was. ctime cannot be set by a program,
// as mtime can.
func unchanged(f *os.File, before *unix.Stat_t) error {
	after, err := stat(f)
	if err != nil {
		return err
	}
	if after.Size != before.Size || after.Mtim != before.Mtim || after.Ctim != before.Ctim {
		return ErrChanged
	}
	return nil
}

// layout finds out where a file has data. A file system that does not know says
// that all of it is.
func (r *Reader) layout(f *os.File, e *Entry) error {
	var extents []Extent
	var data int64
	for at := int64(0); at < e.Size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			extents, data = []Extent{{0, e.Size}}, e.Size
			break
		}
		stop, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return ErrChanged
		}
		stop = min(stop, e.Size)
		if len(extents) == maxExtents-1 {
			stop = e.Size
		}
		if start >= stop {
			break
		}
		extents, data, at = append(extents, Extent{start, stop - start}), data+stop-start, stop
	}
	if data > r.Limit {
		return tooLargeError{r.Limit}
	}
	if e.Sparse = data < e.Size; e.Sparse {
		e.Extents = extents
	}
	return nil
}

// copyData writes the data of a file to dst, holes left out.
func copyData(dst io.Writer, f *os.File, e *Entry) error {
	extents := e.Extents
	if !e.Sparse {
		extents = []Extent{{0, e.Size}}
	}
	buf := make([]byte, min(copyBuffer, max(e.Stored(), 1)))
	for _, x := range extents {
		n, err := io.CopyBuffer(struct{ io.Writer }{dst}, io.NewSectionReader(f, x[0], x[1]), buf)
		if err != nil {
			return err
		}
		if n != x[1] {
			return ErrChanged // it was truncated
		}
	}
	return nil
}
