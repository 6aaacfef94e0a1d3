package patch

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// blobs keeps content by its hash, beneath a directory of its own.
type blobs struct{ root *os.Root }

func openBlobs(dir string) (*blobs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return &blobs{root}, err
}

func (b *blobs) close() error { return b.root.Close() }

// name is where content is: by its first two digits, so that no directory grows
// too large.
func blobName(hash string) string { return hash[:2] + "/" + hash[2:] }

func isHash(hash string) bool {
	if len(hash) != 2*sha256.Size {
		return false
	}
	_, err := hex.DecodeString(hash)
	return err == nil && strings.ToLower(hash) == hash
}

// A batch is content that is written together and made durable at the end.
type batch struct {
	blobs *blobs
	dirs  map[string]bool
	sizes map[string]int64
}

func (b *blobs) batch() *batch {
	return &batch{blobs: b, dirs: make(map[string]bool), sizes: make(map[string]int64)}
}

// add keeps content, which must have the hash and be no longer than limit.
func (b *batch) add(hash string, from io.Reader, limit int64) (err error) {
	if !isHash(hash) {
		return fmt.Errorf("%q is no hash", hash)
	}
	if _, twice := b.sizes[hash]; twice {
		return nil
	}
	root, name := b.blobs.root, blobName(hash)
	if err := root.Mkdir(path.Dir(name), 0o700); err == nil {
		b.dirs["."] = true
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	temporary := path.Join(path.Dir(name), ".new-"+rand.Text())
	to, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, limit+1))
	switch {
	case err != nil:
	case n > limit:
		err = fmt.Errorf("it is longer than the %d bytes that were told", limit)
	case hex.EncodeToString(sum.Sum(nil)) != hash:
		err = errors.New("it does not have the hash that was told")
	default:
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	b.dirs[path.Dir(name)], b.sizes[hash] = true, n
	return root.Rename(temporary, name)
}

// sync makes the names durable.
func (b *batch) sync() error {
	var failed []error
	for dir := range b.dirs {
		failed = append(failed, b.blobs.syncDir(dir))
	}
	return errors.Join(failed...)
}

func (b *blobs) syncDir(name string) error {
	dir, err := b.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// open returns content that is checked as it is read: the last read fails where
// it is not what was kept.
func (b *blobs) open(hash string) (io.ReadCloser, error) {
	if !isHash(hash) {
		return nil, fmt.Errorf("%q is no hash", hash)
	}
	file, err := b.root.Open(blobName(hash))
	if err != nil {
		return nil, err
	}
	return &checked{File: file, hash: hash, sum: sha256.New()}, nil
}

// checked reads a file and fails at its end where it does not have its hash.
type checked struct {
	*os.File
	hash string
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

// Read implements [io.Reader].
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	_, _ = c.sum.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) && hex.EncodeToString(c.sum.Sum(nil)) != c.hash {
		return n, fmt.Errorf("the content %.12s of a patch is damaged", c.hash)
	}
	return n, err
}

// WriteTo keeps io.Copy from passing by the check.
func (c *checked) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// prune removes content that is not needed and was not just written.
func (b *blobs) prune(needed map[string]int64, before time.Time) (freed int64, err error) {
	dirs, err := fs.ReadDir(b.root.FS(), ".")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		files, err := fs.ReadDir(b.root.FS(), dir.Name())
		if err != nil {
			return freed, err
		}
		for _, file := range files {
			if _, keep := needed[dir.Name()+file.Name()]; keep {
				continue
			}
			info, err := file.Info()
			if err != nil || info.ModTime().After(before) {
				continue // it is gone, or a patch with it is on its way in
			}
			if err := b.root.Remove(path.Join(dir.Name(), file.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return freed, err
			}
			freed += info.Size()
		}
	}
	return freed, nil
}
