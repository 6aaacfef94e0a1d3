package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"

	"github.com/sop-host/sop/plugins/internal/tree"
)

func idPrefix(prefix string) content.IDPrefix { return content.IDPrefix(prefix) }

const (
	// bigHole is from how many bytes on a hole is no zeros that are stored, but a
	// repetition of some that are.
	bigHole = 16 << 20
	// zeroUnit is the smallest object of zeros, in bytes.
	zeroUnit = 8 << 20
	// asyncFrom is from what size on a file is compressed and encrypted while the
	// next piece is read.
	asyncFrom = 32 << 20
)

var zeroBytes [256 << 10]byte

// uploader writes the content of files.
type uploader struct {
	ctx         context.Context //nolint:containedctx // of the save that it belongs to
	w           repo.RepositoryWriter
	compression compression.Name

	mu    sync.Mutex // guards the following
	zeros []object.ID
}

// upload takes the data of one file and makes an object that has its holes as
// zeros, so that the kopia client restores it right.
type upload struct {
	*uploader
	entry *tree.Entry
	out   object.Writer
	// done are the objects that come before that of out.
	done []object.ID
	// at is how much of the file is written, and cutAt how much of it is in done.
	at, cutAt int64
	// extent is the one that is written, and inExtent how much of it is.
	extent   int
	inExtent int64
}

func (u *uploader) begin(e *tree.Entry) *upload {
	up := &upload{uploader: u, entry: e}
	up.open()
	return up
}

func (u *upload) open() {
	async := 0
	if u.entry.Size >= asyncFrom {
		async = 1
	}
	u.out = u.w.NewObjectWriter(u.ctx, object.WriterOptions{
		Description: "FILE:" + escape(string(u.entry.Path)), Compressor: u.compression, MetadataCompressor: metadataCompression, AsyncWrites: async,
	})
}

// Discard implements [tree.Content]. What was written belongs to no snapshot and
// goes with the next maintenance.
func (u *upload) Discard() {
	if u.out != nil {
		_ = u.out.Close()
		u.out = nil
	}
}

// Write implements [io.Writer].
func (u *upload) Write(p []byte) (n int, err error) {
	if !u.entry.Sparse {
		n, err = u.out.Write(p)
		u.at += int64(n)
		return n, stored(err)
	}
	for n < len(p) && u.extent < len(u.entry.Extents) {
		x := u.entry.Extents[u.extent]
		if u.inExtent == 0 {
			if err := u.hole(x[0]); err != nil {
				return n, stored(err)
			}
		}
		part := p[n:min(int64(len(p)), int64(n)+x[1]-u.inExtent)]
		m, err := u.out.Write(part)
		n, u.at, u.inExtent = n+m, u.at+int64(m), u.inExtent+int64(m)
		if err != nil {
			return n, stored(err)
		}
		if u.inExtent == x[1] {
			u.extent, u.inExtent = u.extent+1, 0
		}
	}
	return n, nil
}

// hole goes on to an offset.
func (u *upload) hole(to int64) error {
	if to-u.at < bigHole {
		for u.at < to {
			n, err := u.out.Write(zeroBytes[:min(to-u.at, int64(len(zeroBytes)))])
			u.at += int64(n)
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := u.cut(); err != nil {
		return err
	}
	whole := (to - u.at) / zeroUnit
	ids, err := u.zerosOf(whole)
	if err != nil {
		return err
	}
	u.done, u.at = append(u.done, ids...), u.at+whole*zeroUnit
	u.cutAt = u.at
	u.open()
	return u.hole(to)
}

// cut ends the object that is written, unless nothing is in it.
func (u *upload) cut() error {
	id, err := u.out.Result()
	err = errors.Join(err, u.out.Close())
	u.out = nil
	if err == nil && u.at > u.cutAt {
		u.done = append(u.done, id)
	}
	return err
}

// zerosOf are objects of n units of zeros.
func (u *uploader) zerosOf(n int64) (ids []object.ID, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for power := 0; n>>power > 0; power++ {
		if err := u.zerosUpTo(power); err != nil {
			return nil, err
		}
		if n>>power&1 == 1 {
			ids = append(ids, u.zeros[power])
		}
	}
	return ids, nil
}

// zerosUpTo makes objects of 1, 2, 4 … units of zeros: each is the one before
// twice.
func (u *uploader) zerosUpTo(power int) error {
	if len(u.zeros) == 0 {
		id, err := writeObject(u.ctx, u.w, "ZEROS", "", u.compression, func(w io.Writer) error {
			for range zeroUnit / len(zeroBytes) {
				if _, err := w.Write(zeroBytes[:]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		u.zeros = append(u.zeros, id)
	}
	for len(u.zeros) <= power {
		half := u.zeros[len(u.zeros)-1]
		id, err := u.w.ConcatenateObjects(u.ctx, []object.ID{half, half}, repo.ConcatenateOptions{Compressor: metadataCompression})
		if err != nil {
			return err
		}
		u.zeros = append(u.zeros, id)
	}
	return nil
}

// finish ends the object and returns its id.
func (u *upload) finish() (object.ID, error) {
	id, err := u.end()
	u.Discard()
	return id, stored(err)
}

func (u *upload) end() (object.ID, error) {
	if u.entry.Sparse {
		if err := u.hole(u.entry.Size); err != nil {
			return object.EmptyID, err
		}
	}
	id, err := u.out.Result()
	if err != nil || len(u.done) == 0 {
		return id, err
	}
	if u.at > u.cutAt {
		u.done = append(u.done, id)
	}
	return u.w.ConcatenateObjects(u.ctx, u.done, repo.ConcatenateOptions{Compressor: metadataCompression})
}
