package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/audit"
)

// openAppend opens a regular file for appending, for its owner alone. A link is
// not followed: somebody else could point it elsewhere.
func openAppend(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fileError(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err == nil {
		err = syncParent(path) // so that a new name lasts
	}
	if err != nil {
		return nil, errors.Join(fileError(err), f.Close())
	}
	return f, nil
}

func syncParent(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func fileError(cause error) error {
	return cannot("make the file and its directory writable for the host's user, and make room; what was not written is written then", "%v", cause)
}

// cutTorn cuts a file off after its last whole line, or whole note: a crash may
// have left a part.
func cutTorn(f *os.File, end func(tail []byte, all bool) int) error {
	info, err := f.Stat()
	if err != nil {
		return fileError(err)
	}
	size := info.Size()
	tail := make([]byte, min(size, maxTail))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return fileError(err)
	}
	keep := end(tail, int64(len(tail)) == size)
	if keep == len(tail) {
		return nil
	}
	if err := f.Truncate(size - int64(len(tail)-keep)); err != nil {
		return fileError(err)
	}
	return nil
}

// maxTail is more than any record or note has, in bytes.
const maxTail = 1 << 20

// checkpointFile appends notes to a file.
type checkpointFile struct{ path string }

// send implements sender. The file is opened anew each time: it may have been
// moved away.
func (c *checkpointFile) send(_ context.Context, messages []message) (err error) {
	f, err := openAppend(c.path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fileError(closeErr)
		}
	}()
	err = cutTorn(f, endOfNotes)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if _, err := f.WriteString(m.note.Note + "\n"); err != nil {
			return fileError(err)
		}
	}
	if err := f.Sync(); err != nil {
		return fileError(err)
	}
	return nil
}

func (c *checkpointFile) close() error { return nil }

// endOfNotes returns where the last whole note ends, with the empty line after
// it. What is no note at all is left alone.
func endOfNotes(tail []byte, all bool) int {
	if len(tail) == 0 || bytes.HasSuffix(tail, []byte("\n\n")) {
		return len(tail)
	}
	if i := bytes.LastIndex(tail, []byte("\n— ")); i >= 0 {
		if end := bytes.Index(tail[i+1:], []byte("\n\n")); end >= 0 {
			return i + 1 + end + 2
		}
		// The empty line after the last note is not there yet: the note is
		// written again.
		if before := bytes.LastIndex(tail[:i], []byte("\n— ")); before >= 0 {
			if end := bytes.Index(tail[before+1:], []byte("\n\n")); end >= 0 {
				return before + 1 + end + 2
			}
		}
	}
	if all {
		return 0
	}
	return len(tail)
}

// mirrorFile appends records as JSON Lines, and begins another file when one is
// full: path.1 is the latest that is finished.
type mirrorFile struct {
	path    string
	maxSize int64
	files   int
	f       *os.File
	size    int64
}

// send implements sender.
func (m *mirrorFile) send(_ context.Context, messages []message) error {
	if err := m.open(); err != nil {
		return m.failed(err)
	}
	var buf bytes.Buffer
	for _, message := range messages {
		if err := audit.JSONL.Write(&buf, message.record); err != nil {
			return err
		}
		if int64(buf.Len())+m.size >= m.maxSize {
			if err := m.write(&buf); err != nil {
				return m.failed(err)
			}
			if err := m.rotate(); err != nil {
				return m.failed(err)
			}
		}
	}
	if err := m.write(&buf); err != nil {
		return m.failed(err)
	}
	return nil
}

// failed closes the file: the next attempt opens it anew and cuts what is torn.
func (m *mirrorFile) failed(err error) error {
	return errors.Join(fileError(err), m.close())
}

func (m *mirrorFile) open() error {
	if m.f != nil && m.sameFile() {
		return nil
	}
	if err := m.close(); err != nil {
		return err
	}
	f, err := openAppend(m.path)
	if err != nil {
		return err
	}
	err = cutTorn(f, func(tail []byte, all bool) int {
		if i := bytes.LastIndexByte(tail, '\n'); i >= 0 || all {
			return i + 1
		}
		return len(tail)
	})
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	m.f, m.size = f, info.Size()
	return nil
}

// sameFile says whether the file that is open is still the one of that name.
func (m *mirrorFile) sameFile() bool {
	open, err := m.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(m.path)
	return err == nil && os.SameFile(open, named)
}

func (m *mirrorFile) write(buf *bytes.Buffer) error {
	if buf.Len() == 0 {
		return nil
	}
	if err := m.open(); err != nil {
		return err
	}
	n, err := m.f.Write(buf.Bytes())
	m.size += int64(n)
	buf.Reset()
	return errors.Join(err, m.f.Sync())
}

// rotate moves each finished file one number up, and lets go of the last.
func (m *mirrorFile) rotate() error {
	if err := m.close(); err != nil {
		return err
	}
	numbered := func(n int) string { return m.path + "." + strconv.Itoa(n) }
	last := 1
	for last < m.files {
		if _, err := os.Lstat(numbered(last)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		last++
	}
	for n := last; n > 1; n-- {
		if err := os.Rename(numbered(n-1), numbered(n)); err != nil {
			return err
		}
	}
	if err := os.Rename(m.path, numbered(1)); err != nil {
		return err
	}
	return syncParent(m.path)
}

func (m *mirrorFile) close() error {
	if m.f == nil {
		return nil
	}
	err := m.f.Close()
	m.f, m.size = nil, 0
	return err
}
