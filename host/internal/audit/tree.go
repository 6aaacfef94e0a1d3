package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/bits"
	"time"
)

// Head is the end of a log: all that is needed to append to it and to say what
// the tree over it is. The zero value is the empty log.
type Head struct {
	Size uint64
	Last Hash // of the last record; zero when there is none
	// edge holds, for each bit of Size from the lowest that is set, the root of
	// the complete subtree of so many records: what is left of an RFC 6962 tree
	// when only its right edge matters.
	edge [64]Hash
}

// add takes the next record into the head.
func (h *Head) add(leaf Hash) {
	level := 0
	for sum := leaf; ; level++ {
		if h.Size>>level&1 == 0 {
			h.edge[level] = sum
			break
		}
		sum = node(h.edge[level], sum)
	}
	h.Size++
	h.Last = leaf
}

// Root is the hash of the Merkle tree over all records (RFC 6962, as in tlog).
func (h *Head) Root() Hash {
	if h.Size == 0 {
		return sha256.Sum256(nil)
	}
	level := bits.TrailingZeros64(h.Size)
	root := h.edge[level]
	for level++; level < 64; level++ {
		if h.Size>>level&1 == 1 {
			root = node(h.edge[level], root)
		}
	}
	return root
}

// Edge returns what a store keeps of the tree: 32 bytes for each bit that is
// set in Size, from the lowest.
func (h *Head) Edge() []byte {
	out := make([]byte, 0, bits.OnesCount64(h.Size)*sha256.Size)
	for level := range h.edge {
		if h.Size>>level&1 == 1 {
			out = append(out, h.edge[level][:]...)
		}
	}
	return out
}

// HeadOf puts together what a store kept.
func HeadOf(size uint64, last, edge []byte) (Head, error) {
	h := Head{Size: size}
	if len(last) != len(h.Last) || len(edge) != bits.OnesCount64(size)*sha256.Size {
		return Head{}, errors.New("the head of the audit log is damaged")
	}
	copy(h.Last[:], last)
	for level := range h.edge {
		if size>>level&1 == 1 {
			edge = edge[copy(h.edge[level][:], edge):]
		}
	}
	return h, nil
}

// Seal completes r, and makes it the next record after h.
func Seal(ctx context.Context, h *Head, r *Record) {
	r.Complete(ctx)
	seal(h, r, nil)
}

// Complete bounds and cleans what r says, and ties it to the request in ctx and its
// payload, and to the time. All that it lacks then is its place in the log.
func (r *Record) Complete(ctx context.Context) {
	r.belong(ctx)
	r.clean()
	r.carry(ctx)
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Time = time.Unix(0, r.Time.UnixNano()).UTC()
}

// seal ties a complete record to the one before, and moves h. It returns the
// canonical form of the record, in the memory of b.
func seal(h *Head, r *Record, b []byte) []byte {
	r.Seq, r.PrevHash = h.Size+1, h.Last
	b = r.appendCanonical(b[:0])
	r.Hash = leafHash(b)
	h.add(r.Hash)
	return b
}
