package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/sdk"
)

// Archived implements [audit.Store].
func (s *Audit) Archived(ctx context.Context) ([]audit.Segment, error) {
	all, err := archived(ctx, s.db.read)
	return all, s.db.translate(err)
}

func archived(ctx context.Context, q querier) ([]audit.Segment, error) {
	return collect(ctx, q, func(scan func(...any) error) (audit.Segment, error) {
		var s audit.Segment
		var first, last, from, until, at int64
		var sum, lastHash, edge []byte
		if err := scan(&first, &last, &s.File, &s.Bytes, &sum, &lastHash, &edge, &s.Note, &from, &until, &at); err != nil {
			return s, err
		}
		s.First, s.Last, s.From, s.Until, s.At = uint64(first), uint64(last), fromNano(from), fromNano(until), fromNano(at)
		copy(s.Sum[:], sum)
		end, err := audit.HeadOf(s.Last, lastHash, edge)
		s.End = end
		return s, err
	}, "SELECT first_seq, last_seq, file, bytes, sha256, last, edge, note, from_time, until_time, at FROM audit_archives ORDER BY first_seq")
}

// Archive implements [audit.Store].
func (s *Audit) Archive(ctx context.Context, segment *audit.Segment, records ...audit.Record) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		all, err := archived(ctx, tx)
		if err != nil {
			return err
		}
		next := uint64(1)
		if len(all) > 0 {
			next = all[len(all)-1].Last + 1
		}
		if segment.First != next {
			return sdk.Errorf(codes.Aborted, "AUDIT_ARCHIVED", "record %d is not the first that is not archived; %d is", segment.First, next).
				WithRemedy("somebody else archived at the same time; try again")
		}
		if err := rememberArchive(ctx, tx, segment); err != nil {
			return err
		}
		return s.db.appendAudit(ctx, tx, records...)
	})
}

// rememberArchive remembers a segment, and where removing its records begins.
func rememberArchive(ctx context.Context, tx *sql.Tx, s *audit.Segment) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_archives (first_seq, last_seq, file, bytes, sha256, last, edge, note, from_time, until_time, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		int64(s.First), int64(s.Last), s.File, s.Bytes, s.Sum[:], s.End.Last[:], s.End.Edge(), s.Note, s.From.UnixNano(), s.Until.UnixNano(), s.At.UnixNano())
	if err != nil {
		return fmt.Errorf("remember archive: %w", err)
	}
	// Not where an earlier segment is still being removed.
	_, err = tx.ExecContext(ctx, "INSERT INTO audit_cursors (name, seq) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", removedCursor, int64(s.First)-1)
	if err != nil {
		return fmt.Errorf("remember archive: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM audit_spans WHERE last_seq <= $1", int64(s.Last)); err != nil {
		return fmt.Errorf("remove spans of archived records: %w", err)
	}
	return nil
}

// removedCursor stands among the cursors while records that were archived are
// being removed, and says up to which they are gone. Without it all are.
const removedCursor = "archived records removed"

// removeAtATime is how many records Remove removes: writers wait for about
// 7 µs for each.
const removeAtATime = 200

// Remove implements [audit.Store].
func (s *Audit) Remove(ctx context.Context) (more bool, err error) {
	if removed, err := s.removed(ctx, s.db.read); err != nil || removed < 0 {
		return false, s.db.translate(err) // without taking a turn to write
	}
	err = s.db.update(ctx, func(tx *sql.Tx) error {
		more = false
		from, err := s.removed(ctx, tx)
		if err != nil || from < 0 {
			return err
		}
		all, err := archived(ctx, tx)
		if err != nil || len(all) == 0 {
			return err
		}
		last := int64(all[len(all)-1].Last)
		to := min(from+removeAtATime, last)
		if err := part(ctx, tx, last); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM audit_records WHERE seq > $1 AND seq <= $2", from, to); err != nil {
			return fmt.Errorf("remove archived records: %w", err)
		}
		if more = to < last; more {
			_, err = tx.ExecContext(ctx, "UPDATE audit_cursors SET seq = $2 WHERE name = $1", removedCursor, to)
		} else {
			_, err = tx.ExecContext(ctx, "DELETE FROM audit_cursors WHERE name = $1", removedCursor)
		}
		return err
	})
	return more, err
}

// part has a row begin behind a record. One does already where that is the last of
// a group, as it is where a checkpoint was signed, and where this was done before.
// What is behind it stays as it is, but for its first, which stands by itself.
func part(ctx context.Context, tx *sql.Tx, last int64) error {
	var key int64
	rows, err := collect(ctx, tx, func(scan func(...any) error) (stored []byte, err error) {
		return stored, scan(&key, &stored)
	}, "SELECT seq, record FROM audit_records WHERE seq = (SELECT max(seq) FROM audit_records WHERE seq <= $1)", last)
	if err != nil || len(rows) == 0 {
		return err
	}
	var u audit.Unpacker
	for u.Open(key, rows[0]); key <= last && u.More(); key++ {
		u.Digest()
	}
	if !u.More() {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO audit_records (seq, record) VALUES ($1, $2) ON CONFLICT DO NOTHING", last+1, u.Rest()); err != nil {
		return fmt.Errorf("part archived records from others: %w", err)
	}
	return nil
}

// removed returns the last archived record that has been removed, or -1 where
// nothing is being removed.
func (s *Audit) removed(ctx context.Context, q querier) (int64, error) {
	all, err := collect(ctx, q, func(scan func(...any) error) (seq int64, err error) {
		return seq, scan(&seq)
	}, "SELECT seq FROM audit_cursors WHERE name = $1", removedCursor)
	if err != nil || len(all) == 0 {
		return -1, err
	}
	return max(all[0], 0), nil
}

// unarchived returns the first record that is not in an archive, while records
// that are in one have still to be removed; else a number below all.
func (s *Audit) unarchived(ctx context.Context) (int64, error) {
	removed, err := s.removed(ctx, s.db.read)
	if err != nil || removed < 0 {
		return math.MinInt64, err
	}
	all, err := archived(ctx, s.db.read)
	if err != nil || len(all) == 0 {
		return math.MinInt64, err
	}
	return int64(all[len(all)-1].Last) + 1, nil
}

// Before implements [audit.Store].
func (s *Audit) Before(ctx context.Context, t time.Time) (uint64, error) {
	page, err := s.List(ctx, audit.Filter{Since: t, Oldest: true, Limit: 1})
	if err != nil {
		return 0, err
	}
	if len(page.Records) > 0 {
		return page.Records[0].Seq - 1, nil
	}
	head, err := s.Head(ctx)
	return head.Size, err
}

// LastCheckpoint implements [audit.Store].
func (s *Audit) LastCheckpoint(ctx context.Context) (*audit.Checkpoint, error) {
	last, err := collect(ctx, s.db.read, scanCheckpoint, "SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
	if err != nil || len(last) == 0 {
		return nil, s.db.translate(err)
	}
	return last[0], nil
}

func scanCheckpoint(scan func(...any) error) (*audit.Checkpoint, error) {
	c := new(audit.Checkpoint)
	var size int64
	err := scan(&size, &c.Note)
	c.Size = uint64(size)
	return c, err
}

// Cursor implements [audit.Store].
func (s *Audit) Cursor(ctx context.Context, name string) (uint64, error) {
	all, err := collect(ctx, s.db.read, func(scan func(...any) error) (seq int64, err error) {
		return seq, scan(&seq)
	}, "SELECT seq FROM audit_cursors WHERE name = $1", name)
	if err != nil || len(all) == 0 {
		return 0, s.db.translate(err)
	}
	return uint64(all[0]), nil
}

// PutCursor implements [audit.Store].
func (s *Audit) PutCursor(ctx context.Context, name string, seq uint64) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO audit_cursors (name, seq) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq", name, int64(seq))
		return err
	})
}
