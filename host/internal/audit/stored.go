package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// A store keeps a record as the bytes that are hashed, in the encoding that
// appendCanonical describes, and then its hash: nothing is converted to verify
// it, and whatever is changed in it shows. Stored forms say where they end: those
// of records that follow each other may stand one behind the other.

// AppendStored appends the stored form.
func (r *Record) AppendStored(b []byte) []byte { return append(r.appendCanonical(b), r.Hash[:]...) }

// ReadStored returns the record that stands first in stored, under a number, and
// what stands behind it. Where there is none of the form, the record has only that
// number and does not verify, and nothing stands behind it.
func ReadStored(seq int64, stored []byte) (r *Record, behind []byte) {
	r = &Record{Seq: uint64(seq)}
	size := storedSize(r.Seq, stored)
	if size == 0 {
		return r, nil
	}
	r.Time = time.Unix(0, int64(binary.BigEndian.Uint64(stored[10:]))).UTC()
	rest := string(stored[fixedSize:size]) // one copy, of which all texts are parts
	for _, to := range [...]*string{&r.Actor, &r.Action, &r.Resource, (*string)(&r.Outcome), &r.Reason, &r.RequestID, &r.TraceID, &r.Token} {
		*to, rest = takeText(rest)
	}
	n := binary.BigEndian.Uint32([]byte(rest[:4]))
	if rest = rest[4:]; n > 0 {
		r.Attributes = make(map[string]string, n)
	}
	for range n {
		var key string
		key, rest = takeText(rest)
		r.Attributes[key], rest = takeText(rest)
	}
	copy(r.PrevHash[:], rest)
	copy(r.Hash[:], rest[sha256.Size:])
	return r, stored[size:]
}

// takeText takes a text that is there.
func takeText[T string | []byte](s T) (text, rest T) {
	end := 4 + binary.BigEndian.Uint32([]byte(s[:4]))
	return s[4:end], s[end:]
}

// Digest is what verification needs of a record.
type Digest struct {
	Seq        uint64
	Prev, Said Hash // as they stand in the record
	Sum        Hash // of the record as it is
	// Unread says that the record is not of the form, or was not looked at: only
	// Seq is valid, and it must be read as a whole.
	Unread bool
}

// DigestStored hashes the record that stands first in stored, under a number, and
// returns what stands behind it; nothing stands behind what is not of the form. It
// allocates nothing.
func DigestStored(seq int64, stored []byte) (d Digest, behind []byte) {
	d.Seq = uint64(seq)
	size := storedSize(d.Seq, stored)
	if size == 0 {
		d.Unread = true
		return d, nil
	}
	canonical := stored[:size-sha256.Size]
	copy(d.Prev[:], canonical[len(canonical)-sha256.Size:])
	copy(d.Said[:], stored[len(canonical):])
	d.Sum = leafHash(canonical)
	return d, stored[size:]
}

// StoredResource is the resource of the record that stands first in stored, which
// must be one.
func StoredResource(stored []byte) []byte {
	rest := stored[fixedSize:]
	for range 2 { // the actor and the action
		_, rest = takeText(rest)
	}
	resource, _ := takeText(rest)
	return resource
}

const (
	fixedSize   = 2 + 8 + 8 // bytes before the texts
	storedTexts = 8
)

// storedSize is how many bytes the stored form of some record of that number has
// that stands first in stored, so that hashing its bytes is hashing the record; 0:
// none does.
func storedSize(seq uint64, stored []byte) int {
	if len(stored) < fixedSize || stored[0] != leafPrefix || stored[1] != version1 || binary.BigEndian.Uint64(stored[2:]) != seq {
		return 0
	}
	rest := stored[fixedSize:]
	var ok bool
	for range storedTexts {
		if _, rest, ok = cutText(rest); !ok {
			return 0
		}
	}
	if len(rest) < 4 {
		return 0
	}
	n := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	var last, key []byte
	for i := range n {
		if key, rest, ok = cutText(rest); !ok || i > 0 && string(last) >= string(key) {
			return 0
		}
		if _, rest, ok = cutText(rest); !ok {
			return 0
		}
		last = key
	}
	if len(rest) < 2*sha256.Size {
		return 0
	}
	return len(stored) - len(rest) + 2*sha256.Size
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
