package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// gzipSuffix ends the name of an object that is stored compressed.
const gzipSuffix = ".gz"

// smallObject is the size in bytes up to which content is hashed in memory, so
// that what is there already need not be written again.
const smallObject = 256 << 10

// digest is a SHA-256 in hexadecimal digits.
type digest string

func (d digest) valid() bool {
	raw, err := hex.DecodeString(string(d))
	return err == nil && len(raw) == sha256.Size && string(d) == hex.EncodeToString(raw)
}

func digestOf(data []byte) digest {
	sum := sha256.Sum256(data)
	return digest(hex.EncodeToString(sum[:]))
}

func digestFrom(h hash.Hash) digest { return digest(hex.EncodeToString(h.Sum(nil))) }

// pending is an object that has been written and has not got its name yet.
type pending struct {
	sum  digest
	size int64
	// temp is its file; empty: the repository has the object already.
	temp string
	// name is where it belongs, in the directory of objects.
	name string
	// stored is how many bytes its file has.
	stored int64
}

// objectWriter takes the content of one object. Whoever makes one ends it with
// finish or Discard.
type objectWriter struct {
	repo  *repository
	hash  hash.Hash
	size  int64
	small bytes.Buffer
	// temp is nil as long as small holds everything.
	temp *os.File
	out  *bufio.Writer
	gz   *gzip.Writer
}

func (r *repository) newObject() *objectWriter {
	return &objectWriter{repo: r, hash: sha256.New()}
}

// Write implements [io.Writer].
func (w *objectWriter) Write(p []byte) (int, error) {
	w.hash.Write(p)
	w.size += int64(len(p))
	if w.temp == nil && w.small.Len()+len(p) <= smallObject {
		return w.small.Write(p)
	}
	if err := w.spill(); err != nil {
		return 0, err
	}
	return w.sink().Write(p)
}

func (w *objectWriter) sink() io.Writer {
	if w.gz != nil {
		return w.gz
	}
	return w.out
}

// spill begins the file, with what is in memory.
func (w *objectWriter) spill() (err error) {
	if w.temp != nil {
		return nil
	}
	if w.temp, err = createTemp(w.repo.path(tempDir)); err != nil {
		return err
	}
	w.out = bufio.NewWriterSize(w.temp, smallObject)
	if w.repo.compress {
		w.gz = gzip.NewWriter(w.out)
	}
	_, err = w.sink().Write(w.small.Bytes())
	w.small.Reset()
	return err
}

// finish ends the object. With sync its content is durable; its name never is
// before [repository.publish].
func (w *objectWriter) finish(sync bool) (pending, error) {
	p := pending{sum: digestFrom(w.hash), size: w.size}
	if w.temp == nil && w.repo.intact(p.sum, w.size) {
		return p, nil
	}
	err := w.spill()
	if err == nil {
		err = w.flush(sync)
	}
	if err != nil {
		w.Discard()
		return p, err
	}
	info, err := w.temp.Stat()
	if err = errors.Join(err, w.temp.Close()); err != nil {
		return p, errors.Join(err, os.Remove(w.temp.Name()))
	}
	p.temp, p.name, p.stored = w.temp.Name(), string(p.sum), info.Size()
	if w.gz != nil {
		p.name += gzipSuffix
	}
	return p, nil
}

func (w *objectWriter) flush(sync bool) error {
	if w.gz != nil {
		if err := w.gz.Close(); err != nil {
			return err
		}
	}
	if err := w.out.Flush(); err != nil || !sync {
		return err
	}
	return w.temp.Sync()
}

// Discard gives the object up. What cannot be removed is removed by the next
// [repository.sweep].
func (w *objectWriter) Discard() {
	if w.temp != nil {
		_ = w.temp.Close()
		_ = os.Remove(w.temp.Name())
	}
}

// publish gives objects their names, durably. The content of each is durable
// already. One that exists is replaced, in case it was damaged.
func (r *repository) publish(objects []pending) error {
	for _, p := range objects {
		if p.temp == "" {
			continue
		}
		if err := os.Rename(p.temp, r.path(objectsDir, p.name)); err != nil {
			return err
		}
		// The other form of it may be damaged, and would be found first.
		if p.name != string(p.sum) {
			if err := os.Remove(r.path(objectsDir, string(p.sum))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	// Another process may have named an object that this one found, and not
	// have synced the directory yet.
	return syncDir(r.path(objectsDir))
}

// intact reads an object and says whether it is whole.
func (r *repository) intact(sum digest, size int64) bool {
	return r.readObject(sum, size, io.Discard, true) == nil
}

// openObject opens the file of an object.
func (r *repository) openObject(sum digest) (f *os.File, name string, err error) {
	name = filepath.Join(objectsDir, string(sum))
	f, err = os.Open(r.path(name))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, name, err
	}
	f, err = os.Open(r.path(name + gzipSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, name, err
	}
	return f, name + gzipSuffix, err
}

// readObject writes an object of size bytes to dst and returns a [damaged] when
// it is not what its name says; dst has then got something else. With cached
// the kernel may answer from memory, otherwise the disk is read.
func (r *repository) readObject(sum digest, size int64, dst io.Writer, cached bool) error {
	f, name, err := r.openObject(sum)
	if errors.Is(err, fs.ErrNotExist) {
		return damagedf(name, "it is missing")
	}
	if err != nil {
		return damagedf(name, "%v", err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	if !cached {
		// What is not yet written cannot be dropped: then memory is the truth.
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	src, err := plain(f, name)
	if err != nil {
		return damagedf(name, "%v", err)
	}
	return copyChecked(dst, src, name, sum, size)
}

// plain undoes the compression.
func plain(f *os.File, name string) (io.Reader, error) {
	if filepath.Ext(name) != gzipSuffix {
		return f, nil
	}
	return gzip.NewReader(bufio.NewReaderSize(f, smallObject))
}

// writeError is an error of the destination of a copy, not of the source.
type writeError struct{ error }

// Unwrap returns the cause.
func (e writeError) Unwrap() error { return e.error }

type marked struct{ io.Writer }

// Write implements [io.Writer].
func (m marked) Write(p []byte) (int, error) {
	n, err := m.Writer.Write(p)
	if err != nil {
		err = writeError{err}
	}
	return n, err
}

func copyChecked(dst io.Writer, src io.Reader, name string, sum digest, size int64) error {
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(h, marked{dst}), io.LimitReader(src, size+1), make([]byte, 128<<10))
	var failed writeError
	switch {
	case errors.As(err, &failed):
		return failed.error
	case err != nil:
		return damagedf(name, "%v", err)
	case n != size:
		return damagedf(name, "it has not the %d bytes that were stored", size)
	case digestFrom(h) != sum:
		return damagedf(name, "its content is not what was stored")
	}
	return nil
}

// hasObject says, without reading it, whether an object seems whole.
func (r *repository) hasObject(sum digest, size int64) error {
	f, name, err := r.openObject(sum)
	if errors.Is(err, fs.ErrNotExist) {
		return damagedf(name, "it is missing")
	}
	if err != nil {
		return damagedf(name, "%v", err)
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return damagedf(name, "%v", err)
	}
	if info.Size() != size && filepath.Ext(name) != gzipSuffix {
		return damagedf(name, "it has %d bytes where %d were stored", info.Size(), size)
	}
	if info.Size() == 0 && size > 0 {
		return damagedf(name, "it is empty")
	}
	return nil
}
