package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// A store keeps a record as the bytes that are hashed, in the encoding that
// appendCanonical describes, and then its hash: nothing is converted to verify
// it, and whatever is changed in it shows. Stored forms say where they end: those
// of records that follow each other stand one behind the other, as a row. One that
// follows another in a row may be written as what is different in it, see
// appendLike: it is put together again before it is hashed.

// AppendStored appends the stored form of a record by itself.
func (r *Record) AppendStored(b []byte) []byte { return append(r.appendCanonical(b), r.Hash[:]...) }

// Unpacker reads a row, record by record. Use [Unpacker.Open] for each row; all
// that it returns but [Record] values is valid until the next call.
type Unpacker struct {
	seq     uint64
	rest    []byte
	last    []byte    // canonical form of the record before; nil: there is none
	said    Hash      // the hash that stands behind it
	scratch [2][]byte // the last and the next that were put together
}

// Open begins with a row whose first record has a number.
func (u *Unpacker) Open(seq int64, row []byte) { u.seq, u.rest, u.last = uint64(seq), row, nil }

// More says that something stands behind what has been read.
func (u *Unpacker) More() bool { return len(u.rest) > 0 }

// Behind returns what stands behind what has been read, as it stands there.
func (u *Unpacker) Behind() []byte { return u.rest }

// Rest returns what stands behind what has been read, as a row by itself.
func (u *Unpacker) Rest() []byte {
	ahead := *u
	ahead.scratch = [2][]byte{}
	canonical, ok := ahead.next()
	if !ok {
		return u.rest // whatever it is
	}
	whole := append(append([]byte(nil), canonical...), ahead.said[:]...)
	return append(whole, ahead.rest...)
}

// next takes the record that stands first. Where none of its number does, nothing
// stands behind it.
func (u *Unpacker) next() (canonical []byte, ok bool) {
	seq, before := u.seq, u.last
	u.seq++
	u.last = nil
	behind := u.rest
	u.rest = nil
	if size := canonicalSize(seq, behind); size > 0 {
		canonical, behind = behind[:size], behind[size:]
	} else if before == nil {
		return nil, false
	} else if canonical, behind, ok = restore(u.scratch[1][:0], before, &u.said, behind); ok {
		u.scratch[0], u.scratch[1] = canonical, u.scratch[0]
	} else {
		return nil, false
	}
	if len(behind) < len(u.said) {
		return nil, false
	}
	u.last = canonical
	u.rest = behind[copy(u.said[:], behind):]
	return canonical, true
}

// Record returns the next record. Where there is none of the form, the record has
// only its number and does not verify, and nothing stands behind it.
func (u *Unpacker) Record() *Record {
	r := &Record{Seq: u.seq}
	canonical, ok := u.next()
	if !ok {
		return r
	}
	r.Time = time.Unix(0, storedTime(canonical)).UTC()
	rest := string(canonical[fixedSize:]) // one copy, of which all texts are parts
	for _, to := range [...]*string{&r.Actor, &r.Action, &r.Resource, (*string)(&r.Outcome), &r.Reason, &r.RequestID, &r.TraceID, &r.Token} {
		*to, rest = takeText(rest)
	}
	n := binary.BigEndian.Uint32([]byte(rest[:countSize]))
	if rest = rest[countSize:]; n > 0 {
		r.Attributes = make(map[string]string, n)
	}
	for range n {
		var key string
		key, rest = takeText(rest)
		r.Attributes[key], rest = takeText(rest)
	}
	copy(r.PrevHash[:], rest)
	r.Hash = u.said
	return r
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

// Digest hashes the next record; nothing stands behind what is not of the form. It
// allocates nothing once it has put together a record of that size.
func (u *Unpacker) Digest() (d Digest) {
	d.Seq = u.seq
	canonical, ok := u.next()
	if !ok {
		d.Unread = true
		return d
	}
	copy(d.Prev[:], canonical[len(canonical)-sha256.Size:])
	d.Said, d.Sum = u.said, leafHash(canonical)
	return d
}

const (
	fixedSize   = 2 + 8 + 8 // bytes before the texts
	storedTexts = 8         // before the number of attributes
	countSize   = 4         // of that number
	lengthSize  = 4         // of a text
)

func storedTime(canonical []byte) int64 { return int64(binary.BigEndian.Uint64(canonical[10:])) }

// takeText takes a text that is there.
func takeText[T string | []byte](s T) (text, rest T) {
	end := lengthSize + binary.BigEndian.Uint32([]byte(s[:lengthSize]))
	return s[lengthSize:end], s[end:]
}

// canonicalSize is how many bytes the canonical form of some record of that number
// has that stands first in b, so that hashing its bytes is hashing the record; 0:
// none does.
func canonicalSize(seq uint64, b []byte) int {
	if len(b) < fixedSize || b[0] != leafPrefix || b[1] != version1 || binary.BigEndian.Uint64(b[2:]) != seq {
		return 0
	}
	rest := b[fixedSize:]
	var ok bool
	for range storedTexts {
		if _, rest, ok = cutText(rest); !ok {
			return 0
		}
	}
	if len(rest) < countSize {
		return 0
	}
	n := binary.BigEndian.Uint32(rest)
	rest = rest[countSize:]
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
	if len(rest) < sha256.Size {
		return 0
	}
	return len(b) - len(rest) + sha256.Size
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[lengthSize:]; uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
