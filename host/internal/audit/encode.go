package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
)

// Hash is a SHA-256. Its text form is lower-case hexadecimal.
type Hash [sha256.Size]byte

// String returns the hexadecimal form.
func (h Hash) String() string {
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], h[:])
	return string(text[:])
}

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
	nodePrefix = 1
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
	return append(canonicalAttributes(b, r.Attributes), r.PrevHash[:]...)
}

// Canonical returns what is hashed of a record; see appendCanonical.
func (r *Record) Canonical() []byte { return r.appendCanonical(nil) }

func canonicalAttributes(b []byte, attributes map[string]string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(attributes)))
	if len(attributes) == 0 {
		return b
	}
	var few [maxAttribute + 2]string // with those of the payload
	keys := few[:0]
	for key := range attributes {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b = appendText(appendText(b, key), attributes[key])
	}
	return b
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// hasher hashes records without allocating for each.
type hasher struct{ buf []byte }

func (h *hasher) hash(r *Record) Hash {
	h.buf = r.appendCanonical(h.buf[:0])
	return leafHash(h.buf)
}

// leafHash is the hash of a record, whose canonical bytes begin with the prefix
// of a leaf.
func leafHash(canonical []byte) Hash { return sha256.Sum256(canonical) }

// node is the hash of an inner node of the tree, as in RFC 6962.
func node(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}
