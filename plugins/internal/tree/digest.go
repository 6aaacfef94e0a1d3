package tree

import (
	"crypto/sha256"
	"hash"
	"io"
)

// Digest is the SHA-256 of a file with its holes as zeros; nil when copying its
// data fails.
func Digest(e *Entry, copyTo func(io.Writer) error) []byte {
	flat := &zeroFilled{hash: sha256.New()}
	if copyTo(SparseWriter(flat, e)) != nil {
		return nil
	}
	flat.fill(e.Size)
	return flat.hash.Sum(nil)
}

// zeroFilled hashes a file that is written from its beginning to its end, holes
// as zeros.
type zeroFilled struct {
	hash hash.Hash
	at   int64
}

// WriteAt implements [io.WriterAt].
func (z *zeroFilled) WriteAt(p []byte, at int64) (int, error) {
	z.fill(at)
	z.at += int64(len(p))
	return z.hash.Write(p)
}

var zeros [64 << 10]byte

// fill goes on to an offset.
func (z *zeroFilled) fill(to int64) {
	for z.at < to {
		n := min(to-z.at, int64(len(zeros)))
		_, _ = z.hash.Write(zeros[:n]) // a hash takes everything
		z.at += n
	}
}
