package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/sop-host/sop/host/internal/audit"
)

// Records of the log are found by their number. For what is searched most, time
// and resource, each span of spanSize records has one row that says from when to
// when they are and, by hash, of what: a search looks only at the spans that may
// hold something, and at the records after the last of them. It costs a few bytes
// a record, at the end of the table, where an index of resources would change a
// page anywhere for each. What spans say is for searching; nothing that is
// verified depends on them.
const spanSize = 1024

// span is what is known of some records that follow each other.
type span struct {
	first, last int64 // last < first: none
	from, until int64 // in time
	resources   []byte
}

// resourceHash is what a span keeps of a resource, its CRC-32.
func resourceHash(resource []byte) uint32 { return crc32.ChecksumIEEE(resource) }

func (s *span) add(seq, at int64, resource uint32) {
	if s.last < s.first {
		s.from, s.until = at, at
	}
	s.last, s.from, s.until = seq, min(s.from, at), max(s.until, at)
	s.resources = binary.BigEndian.AppendUint32(s.resources, resource)
}

// next is the empty span that follows; it takes over the memory.
func (s *span) next() span { return span{first: s.last + 1, last: s.last, resources: s.resources[:0]} }

// note adds a record to the last span, and writes the span when it is full.
func (s *span) note(ctx context.Context, tx *sql.Tx, seq, at int64, resource uint32) error {
	s.add(seq, at, resource)
	if len(s.resources) < 4*spanSize {
		return nil
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO audit_spans (last_seq, first_seq, from_at, until_at, resources) VALUES ($1, $2, $3, $4, $5)",
		s.last, s.first, s.from, s.until, s.resources)
	if err != nil {
		return fmt.Errorf("store span of audit records: %w", err)
	}
	*s = s.next()
	return nil
}

// loadSpan returns the span of the records after the last that was written, up
// to a record.
func loadSpan(ctx context.Context, tx *sql.Tx, through int64) (*span, error) {
	last, err := number(ctx, tx, "SELECT coalesce(max(last_seq), 0) FROM audit_spans")
	if err != nil {
		return nil, err
	}
	s := &span{first: last + 1, last: last}
	for r, err := range auditRecords(ctx, tx, stretch{s.first, through}, false, blockPage) {
		if err != nil {
			return nil, err
		}
		if err := s.note(ctx, tx, int64(r.Seq), r.Time.UnixNano(), resourceHash([]byte(r.Resource))); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// searched are what of a stretch has to be looked at for a filter, in order.
func (db *DB) searched(ctx context.Context, within stretch, f *audit.Filter) ([]stretch, error) {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !f.Since.IsZero() {
		since = f.Since.UnixNano()
	}
	if !f.Until.IsZero() {
		until = f.Until.UnixNano()
	}
	if f.Since.IsZero() && f.Until.IsZero() && f.Resource == "" {
		return []stretch{within}, nil
	}
	column := "x''"
	if f.Resource != "" {
		column = "resources"
	}
	spans, err := collect(ctx, db.read, func(scan func(...any) error) (span, error) {
		var s span
		err := scan(&s.last, &s.first, &s.from, &s.until, &s.resources)
		return s, err
	}, "SELECT last_seq, first_seq, from_at, until_at, "+column+" FROM audit_spans WHERE last_seq >= $1 AND first_seq <= $2 ORDER BY last_seq", within.from, within.to)
	if err != nil {
		return nil, err
	}
	next := within.from
	var out []stretch
	look := func(from, to int64) {
		from, to = max(from, within.from), min(to, within.to)
		switch n := len(out); {
		case from > to:
		case n > 0 && out[n-1].to+1 == from:
			out[n-1].to = to
		default:
			out = append(out, stretch{from, to})
		}
	}
	for i := range spans {
		s := &spans[i]
		look(next, s.first-1) // of which no span says anything
		if s.until >= since && s.from < until && (f.Resource == "" || s.holds(resourceHash([]byte(f.Resource)))) {
			look(s.first, s.last)
		}
		next = s.last + 1
	}
	look(next, within.to)
	return out, nil
}

// holds says that a record of the span may be about a resource.
func (s *span) holds(resource uint32) bool {
	for all := s.resources; len(all) >= 4; all = all[4:] {
		if binary.BigEndian.Uint32(all) == resource {
			return true
		}
	}
	return false
}

// find yields what passes the filter until it has enough.
func (db *DB) find(ctx context.Context, in []stretch, f *audit.Filter, enough int) ([]*audit.Record, error) {
	if !f.Oldest {
		slices.Reverse(in)
	}
	var out []*audit.Record
	for _, s := range in {
		for r, err := range auditRecords(ctx, db.read, s, !f.Oldest, enough) {
			if err != nil {
				return nil, err
			}
			if f.Match(r) && f.Where.Match(r.Field) {
				out = append(out, r)
			}
			if len(out) == enough {
				return out, nil
			}
		}
	}
	return out, nil
}
