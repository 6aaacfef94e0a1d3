package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// Packer seals records that follow each other and packs their stored forms into
// rows.
type Packer struct {
	// Limit is how many bytes a row of several records has at most.
	Limit int

	bytes []byte // the rows, one behind the other
	rows  []packed
	last  []byte // canonical form of the record that was sealed last; empty: there is none
	next  []byte
	out   []Row
}

// packed is a row that ends where the next one begins.
type packed struct {
	first uint64
	begin int
}

// Clear begins with no rows. They will use the memory of those that there were, unless
// that is more than keep bytes.
func (p *Packer) Clear(keep int) {
	p.bytes, p.rows, p.last = p.bytes[:0], p.rows[:0], p.last[:0]
	if cap(p.bytes) > keep {
		*p = Packer{Limit: p.Limit}
	}
}

// Row is a row and the number of its first record.
type Row struct {
	First uint64
	Bytes []byte
}

// Rows returns the rows. They are valid until a record is sealed.
func (p *Packer) Rows() []Row {
	p.out = p.out[:0]
	for i, r := range p.rows {
		end := len(p.bytes)
		if i+1 < len(p.rows) {
			end = p.rows[i+1].begin
		}
		p.out = append(p.out, Row{r.first, p.bytes[r.begin:end:end]})
	}
	return p.out
}

// Seal makes r, which is complete, the next record after h, and packs it.
func (p *Packer) Seal(h *Head, r *Record) {
	p.next = seal(h, r, p.next)
	p.pack(r)
	p.last, p.next = p.next, p.last
}

// pack puts next into the last row where there is room, or begins a row.
func (p *Packer) pack(r *Record) {
	begin, room := len(p.bytes), 0
	if n := len(p.rows); n > 0 {
		room = p.rows[n-1].begin + p.Limit - begin - len(r.Hash)
	}
	if len(p.last) > 0 {
		out, ok := appendLike(p.bytes, p.last, p.next)
		if ok && len(out)-begin <= room {
			out = append(out, r.Hash[:]...)
			p.bytes = out
			return
		}
		p.bytes = out[:begin]
	}
	if len(p.next) > room {
		p.rows = append(p.rows, packed{r.Seq, begin})
	}
	p.bytes = append(append(p.bytes, p.next...), r.Hash[:]...)
}

const (
	likePrefix = 2   // neither of a leaf nor of a node
	lastTexts  = 255 // stands where the next changed text would
)

// appendLike appends what is different in the canonical form of a record from that
// of the one before, and false where it must be written as a whole. What is not
// said is as before; the number is the next one, and PrevHash the hash that stands
// behind the record before. Texts are counted as they stand in the form, from 0, keys
// and values of attributes, of which there are as many as before, among them.
//
//	1 byte   2
//	varint   Time, nanoseconds since that of the record before
//	and of each text that is another
//	1 byte   which one, in ascending order
//	uvarint  its length in bytes
//	bytes
//	1 byte   255, in place of a text
func appendLike(b, last, next []byte) ([]byte, bool) {
	b = append(b, likePrefix)
	b = binary.AppendVarint(b, storedTime(next)-storedTime(last))
	was, is := last[fixedSize:], next[fixedSize:]
	var old, text []byte
	for i, texts := 0, storedTexts; i < texts; i++ {
		old, was = takeText(was)
		text, is = takeText(is)
		if !bytes.Equal(old, text) {
			b = append(b, byte(i))
			b = binary.AppendUvarint(b, uint64(len(text)))
			b = append(b, text...)
		}
		if i == storedTexts-1 {
			n, m := binary.BigEndian.Uint32(was), binary.BigEndian.Uint32(is)
			was, is = was[countSize:], is[countSize:]
			if n != m || n > maxAttribute+2 {
				return b, false
			}
			texts += 2 * int(n)
		}
	}
	return append(b, lastTexts), true
}

// restore appends the canonical form of the record that appendLike has written to
// like, from that of the record before and the hash that stands behind it. It
// returns what stands behind like, and false where nobody has written that.
func restore(to, last []byte, said *Hash, like []byte) (canonical, behind []byte, ok bool) {
	if len(like) == 0 || like[0] != likePrefix {
		return nil, nil, false
	}
	since, n := binary.Varint(like[1:])
	if n <= 0 || n != varintSize(uint64(since)<<1^uint64(since>>63)) {
		return nil, nil, false
	}
	like = like[1+n:]
	seq := binary.BigEndian.Uint64(last[2:]) + 1
	to = append(to, leafPrefix, version1)
	to = binary.BigEndian.AppendUint64(to, seq)
	to = binary.BigEndian.AppendUint64(to, uint64(storedTime(last)+since))
	texts := textCopier{rest: last[fixedSize : len(last)-sha256.Size]}
	for {
		if len(like) == 0 {
			return nil, nil, false
		}
		which := int(like[0])
		if like = like[1:]; which == lastTexts {
			break
		}
		size, n := binary.Uvarint(like)
		if n <= 0 || n != varintSize(size) || size > uint64(len(like)-n) {
			return nil, nil, false
		}
		text := like[n : n+int(size)]
		like = like[n+int(size):]
		if to, ok = texts.replace(to, which, text); !ok {
			return nil, nil, false
		}
	}
	to = append(to, texts.rest...)
	to = append(to, said[:]...)
	if texts.keys && canonicalSize(seq, to) != len(to) {
		return nil, nil, false
	}
	return to, like, true
}

// textCopier copies the texts of a canonical form, all but those that are replaced.
type textCopier struct {
	rest []byte // not yet copied
	at   int    // the text that it begins with
	keys bool   // one of an attribute was replaced
}

// replace copies the texts before one, and another in its place. It is false where
// there is no such text to come, or it is that.
func (c *textCopier) replace(to []byte, which int, text []byte) ([]byte, bool) {
	if which < c.at {
		return to, false
	}
	end := 0
	for ; c.at < which; c.at++ {
		if len(c.rest)-end < lengthSize {
			return to, false
		}
		end += lengthSize + int(binary.BigEndian.Uint32(c.rest[end:]))
		if c.at == storedTexts-1 {
			end += countSize
		}
	}
	if len(c.rest)-end < lengthSize {
		return to, false
	}
	to = append(to, c.rest[:end]...)
	var old []byte
	old, c.rest = takeText(c.rest[end:])
	if bytes.Equal(old, text) {
		return to, false
	}
	to = appendText(to, text)
	if which == storedTexts-1 {
		to = append(to, c.rest[:countSize]...)
		c.rest = c.rest[countSize:]
	}
	c.keys = c.keys || which >= storedTexts && (which-storedTexts)%2 == 0
	c.at++
	return to, true
}

// varintSize is how many bytes a uvarint has that has none too many.
func varintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
