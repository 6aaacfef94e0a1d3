package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a SHA-256. Its text form is lower-case hexadecimal.
type Hash [sha256.Size]byte

// String returns the hexadecimal form.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return errors.New("a hash has 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

const (
	leafPrefix = 0 // of RFC 6962: the hash of a record is its leaf in the tree
	version1   = 1
)

// appendCanonical appends what is hashed of a record: version 1 of the encoding,
// in which two records never have the same bytes. Integers are big-endian, and
// text is its length in bytes, as uint32, and then its bytes.
//
//	1 byte   0, the leaf prefix of RFC 6962
//	1 byte   1, the version of this encoding
//	8 bytes  Seq
//	8 bytes  Time, nanoseconds since the Unix epoch
//	text     Actor, Action, Resource, Outcome, Reason, RequestID, TraceID, Token
//	4 bytes  how many attributes
//	text     key and value of each, by key in ascending byte order
//	32 bytes PrevHash
func (r *Record) appendCanonical(b []byte) []byte {
	b = append(b, leafPrefix, version1)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	for _, s := range [...]string{r.Actor, r.Action, r.Resource, string(r.Outcome), r.Reason, r.RequestID, r.TraceID, r.Token} {
		b = appendText(b, s)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Attributes)))
	if len(r.Attributes) > 0 {
		for _, key := range slices.Sorted(maps.Keys(r.Attributes)) {
			b = appendText(appendText(b, key), r.Attributes[key])
		}
	}
	return append(b, r.PrevHash[:]...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// hasher hashes records without allocating for each.
type hasher struct{ buf []byte }

func (h *hasher) hash(r *Record) Hash {
	h.buf = r.appendCanonical(h.buf[:0])
	return sha256.Sum256(h.buf)
}

// node is the hash of an inner node of the tree.
func node(left, right Hash) Hash { return Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right))) }
