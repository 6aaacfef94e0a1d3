package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
)

// Row is a record as the bytes that a database keeps of it, which belong to
// whoever filled it in. It is for verification: nothing is converted.
type Row struct {
	Seq  int64
	Time int64 // nanoseconds since the Unix epoch
	// Text holds Actor, Action, Resource, Outcome, Reason, RequestID, TraceID
	// and Token.
	Text       [8][]byte
	Attributes []byte // a JSON object; empty where there are none
	Prev, Hash []byte
}

// Digest is what verification needs of a record.
type Digest struct {
	Seq        uint64
	Prev, Said Hash // as they stand in the record
	Sum        Hash // of the record as it is
	// Unread says that the row could not be read this way: only Seq is valid,
	// and the record must be read as a whole.
	Unread bool
}

// Digester hashes rows without allocating for each. It is for one goroutine.
type Digester struct{ buf []byte }

// Digest hashes a row.
func (d *Digester) Digest(r *Row) Digest {
	out := Digest{Seq: uint64(r.Seq)}
	b := d.buf[:0]
	b = append(b, leafPrefix, version1)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	for _, text := range r.Text {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	b, ok := appendAttributes(b, r.Attributes)
	d.buf = b
	if !ok || len(r.Prev) != len(out.Prev) || len(r.Hash) != len(out.Said) {
		out.Unread = true
		return out
	}
	copy(out.Prev[:], r.Prev)
	copy(out.Said[:], r.Hash)
	b = append(b, r.Prev...)
	d.buf = b
	out.Sum = leafHash(b)
	return out
}

// appendAttributes appends the canonical form of attributes in JSON.
func appendAttributes(b, text []byte) ([]byte, bool) {
	if len(text) == 0 {
		return binary.BigEndian.AppendUint32(b, 0), true
	}
	if out, ok := appendPlainAttributes(b, text); ok {
		return out, true
	}
	var attributes map[string]string
	if err := json.Unmarshal(text, &attributes); err != nil {
		return b, false
	}
	return canonicalAttributes(b, attributes), true
}

// appendPlainAttributes does it for objects in plain ASCII without anything
// escaped, whose keys ascend; it answers false for any other.
func appendPlainAttributes(b, text []byte) ([]byte, bool) {
	if len(text) < 2 || text[0] != '{' || !isVerbatim(text) {
		return b, false
	}
	at, n := len(b), uint32(0)
	b = append(b, 0, 0, 0, 0)
	var last []byte
	for rest := text[1:]; ; {
		key, then, after := quoted(rest)
		if then != ':' || n > 0 && bytes.Compare(last, key) >= 0 {
			return b, false
		}
		value, then, next := quoted(after)
		if then != ',' && then != '}' {
			return b, false
		}
		b = appendText(appendText(b, key), value)
		last, rest = key, next
		if n++; then == '}' {
			binary.BigEndian.PutUint32(b[at:], n)
			return b, len(next) == 0
		}
	}
}

// isVerbatim says that each byte of a text in JSON stands for itself.
func isVerbatim(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// quoted takes a text in quotes and the byte that follows it; 0 says that there
// is no such text.
func quoted(text []byte) (content []byte, then byte, rest []byte) {
	if len(text) == 0 || text[0] != '"' {
		return nil, 0, nil
	}
	i := bytes.IndexByte(text[1:], '"') + 1
	if i == 0 || i+1 >= len(text) {
		return nil, 0, nil
	}
	return text[1:i], text[i+1], text[i+2:]
}
