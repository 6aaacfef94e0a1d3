package main

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

// errChanged says that a file was written while it was read.
var errChanged = errors.New("it changed while it was read")

// readTries is how often a file that changes is read.
const readTries = 4

// fresh is how young a change must be for the file to be read twice: a clock
// that ticks slowly, and a write that takes long, hide that it is going on.
const fresh = 2 * time.Second

// maxExtents bounds the extents of a file; holes beyond it are stored as zeros.
const maxExtents = 1 << 16

// tooLargeError is the error of a file that exceeds the limit.
type tooLargeError struct{ limit int64 }

// Error implements [error].
func (t tooLargeError) Error() string {
	return fmt.Sprintf("it has more than the %d bytes that max_file_size allows", t.limit)
}

// reader reads the files of a save into a repository.
type reader struct {
	repo  *repository
	tree  *tree
	limit int64 // bytes of a file
	// sync makes the content of each object durable at once.
	sync bool
}

// read stores one regular file. It fails with errChanged rather than store a
// content that the file never had.
func (r *reader) read(p rawPath) (e entry, object pending, err error) {
	for range readTries {
		e, object, err = r.once(p)
		if !errors.Is(err, errChanged) {
			break
		}
	}
	return e, object, err
}

func (r *reader) once(p rawPath) (entry, pending, error) {
	f, err := r.tree.open(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return entry{}, pending{}, err
	}
	defer f.Close() //nolint:errcheck // it was read only
	before, err := stat(f)
	if err != nil {
		return entry{}, pending{}, err
	}
	e := entryOf(p, &before)
	if e.Type != typeFile {
		return e, pending{}, errChanged
	}
	if e.Xattrs, err = readXattrs(f); err != nil {
		return e, pending{}, err
	}
	if err := r.layout(f, &e); err != nil {
		return e, pending{}, err
	}
	object, err := r.store(f, &e, &before)
	if err != nil {
		return e, pending{}, err
	}
	e.SHA256 = object.sum
	return e, object, nil
}

// store copies the content, and gives it up when it changed meanwhile.
func (r *reader) store(f *os.File, e *entry, before *unix.Stat_t) (pending, error) {
	w := r.repo.newObject()
	err := copyData(w, f, e)
	if err == nil {
		err = unchanged(f, before)
	}
	if err == nil && time.Since(time.Unix(before.Ctim.Unix())) < fresh {
		err = r.again(f, e, before, w.hash)
	}
	if err != nil {
		w.discard()
		return pending{}, err
	}
	return w.finish(r.sync)
}

// again reads the content a second time and compares.
func (r *reader) again(f *os.File, e *entry, before *unix.Stat_t, first hash.Hash) error {
	second := sha256.New()
	if err := copyData(second, f, e); err != nil {
		return err
	}
	if digestFrom(first) != digestFrom(second) {
		return errChanged
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
		return errChanged
	}
	return nil
}

// layout finds out where a file has data. A file system that does not know says
// that all of it is.
func (r *reader) layout(f *os.File, e *entry) error {
	var extents []extent
	var data int64
	for at := int64(0); at < e.Size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			extents, data = []extent{{0, e.Size}}, e.Size
			break
		}
		stop, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return errChanged
		}
		stop = min(stop, e.Size)
		if len(extents) == maxExtents-1 {
			stop = e.Size
		}
		if start >= stop {
			break
		}
		extents, data, at = append(extents, extent{start, stop - start}), data+stop-start, stop
	}
	if data > r.limit {
		return tooLargeError{r.limit}
	}
	if e.Sparse = data < e.Size; e.Sparse {
		e.Extents = extents
	}
	return nil
}

// copyData writes the data of a file to dst, holes left out.
func copyData(dst io.Writer, f *os.File, e *entry) error {
	extents := e.Extents
	if !e.Sparse {
		extents = []extent{{0, e.Size}}
	}
	buf := make([]byte, min(smallObject, max(e.stored(), 1)))
	for _, x := range extents {
		n, err := io.CopyBuffer(struct{ io.Writer }{dst}, io.NewSectionReader(f, x[0], x[1]), buf)
		if err != nil {
			return err
		}
		if n != x[1] {
			return errChanged // it was truncated
		}
	}
	return nil
}
