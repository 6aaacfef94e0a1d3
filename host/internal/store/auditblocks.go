package store

import (
	"context"
	"database/sql"
	"iter"

	"github.com/sop-host/sop/host/internal/audit"
)

// A row of audit_records holds records that follow each other: the number of the
// first, and their stored forms as [audit.Packer] packs them. Records of one group
// share rows, since a row costs as much to write as ten records to pack; a row by
// itself is what a group of one writes, and what hosts wrote for every record once.

// blockBytes is how much several records of one row may take: half of a page of
// 4096 bytes, so that little of it is left empty.
const blockBytes = 2030

// block is a row that was read: its number, and records, of which the last may be
// none. It has one at least.
type block struct {
	key     int64
	records []*audit.Record
}

func scanBlock(scan func(...any) error) (block, error) {
	var b block
	var stored sql.RawBytes
	if err := scan(&b.key, &stored); err != nil {
		return b, err
	}
	var u audit.Unpacker
	for u.Open(b.key, stored); ; {
		if b.records = append(b.records, u.Record()); !u.More() {
			return b, nil
		}
	}
}

// stretch is from one record to another, both included.
type stretch struct{ from, to int64 }

// blockPage is how many rows are read at a time: a reader that takes its time holds
// nothing up.
const blockPage = 500

// blocks yields the rows that hold records of a stretch, in order or the latest
// first, so many at a time in the beginning. They may hold others too.
func blocks(ctx context.Context, q querier, s stretch, latest bool, page int) iter.Seq2[block, error] {
	return func(yield func(block, error) bool) {
		first, err := number(ctx, q, "SELECT coalesce(max(seq), $1) FROM audit_records WHERE seq <= $1", s.from)
		if err != nil {
			yield(block{}, err)
			return
		}
		order := "ASC"
		if latest {
			order = "DESC"
		}
		for s.from = first; s.from <= s.to; page = blockPage {
			rows, err := collect(ctx, q, scanBlock, "SELECT seq, record FROM audit_records WHERE seq BETWEEN $1 AND $2 ORDER BY seq "+order+" LIMIT $3", s.from, s.to, page)
			if err != nil {
				yield(block{}, err)
				return
			}
			for _, b := range rows {
				if !yield(b, nil) {
					return
				}
			}
			if len(rows) < page {
				return
			}
			if last := rows[len(rows)-1].key; latest {
				s.to = last - 1
			} else {
				s.from = last + 1
			}
		}
	}
}

// auditRecords yields the records of a stretch, in order or the latest first; see
// blocks.
func auditRecords(ctx context.Context, q querier, s stretch, latest bool, page int) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		for b, err := range blocks(ctx, q, s, latest, page) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range b.records {
				if latest {
					i = len(b.records) - 1 - i
				}
				if seq := b.key + int64(i); seq < s.from || seq > s.to {
					continue
				}
				if !yield(b.records[i], nil) {
					return
				}
			}
		}
	}
}
