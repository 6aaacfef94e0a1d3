package store

import "encoding/binary"

// Some rows are one value that holds several texts: a column costs as much to
// write as the rest of a short row. Integers are big-endian, and text is its length
// in bytes, as uint32, and then its bytes.

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// textReader takes one after the other from the front.
type textReader struct {
	rest  string
	short bool // there was less than was asked for
}

func (r *textReader) number() uint32 {
	if len(r.rest) < 4 {
		r.short = true
		return 0
	}
	n := binary.BigEndian.Uint32([]byte(r.rest[:4]))
	r.rest = r.rest[4:]
	return n
}

func (r *textReader) text() string {
	n := uint64(r.number())
	if n > uint64(len(r.rest)) {
		r.short = true
		return ""
	}
	text := r.rest[:n]
	r.rest = r.rest[n:]
	return text
}

// nanoseconds is a number of 8 bytes, nanoseconds since the Unix epoch.
func (r *textReader) nanoseconds() int64 {
	if len(r.rest) < 8 {
		r.short = true
		return 0
	}
	n := binary.BigEndian.Uint64([]byte(r.rest[:8]))
	r.rest = r.rest[8:]
	return int64(n)
}
