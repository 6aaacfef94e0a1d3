package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/sdk"
)

// Audit is the [audit.Store] in a database.
type Audit struct{ db *DB }

var _ audit.Store = (*Audit)(nil)

// Audit returns the audit store.
func (db *DB) Audit() *Audit { return &Audit{db} }

// pendingAudit is what a group has appended to the log and not yet written.
type pendingAudit struct {
	loaded  bool
	from    uint64 // size of the log before the group
	head    audit.Head
	records []audit.Record
}

// mark remembers where the log stands, for reset.
func (p *pendingAudit) mark() pendingAudit { return *p }

func (p *pendingAudit) reset(mark pendingAudit) { *p = mark }

// appendAudit appends records to the log in the transaction of an update: they
// are there exactly if what they speak of is. Call it from within update only.
func (db *DB) appendAudit(ctx context.Context, tx *sql.Tx, records ...audit.Record) error {
	if len(records) == 0 {
		return nil
	}
	pending := &db.writer.group.audit
	if !pending.loaded {
		if err := db.loadHead(ctx, tx, pending); err != nil {
			return err
		}
	}
	for i := range records {
		r := records[i]
		audit.Seal(ctx, &pending.head, &r)
		pending.records = append(pending.records, r)
		if e, ok := recordEvent(&r); ok {
			if err := db.appendEvents(ctx, tx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadHead takes the head from the last group, or from the database.
func (db *DB) loadHead(ctx context.Context, tx *sql.Tx, pending *pendingAudit) error {
	if last := db.writer.head; last != nil {
		pending.head = *last
	} else {
		head, err := auditHead(ctx, tx)
		if err != nil {
			return err
		}
		pending.head = head
	}
	pending.loaded, pending.from = true, pending.head.Size
	return nil
}

const auditColumns = `seq, at, actor, action, resource, outcome, reason, request_id, trace_id, token, attributes, prev_hash, hash`

var putAudit = bulk{"audit_records (" + auditColumns + ")", 13, ""}

// flushAudit writes what the group has appended.
func (db *DB) flushAudit(tx *sql.Tx, pending *pendingAudit) error {
	if len(pending.records) == 0 {
		return nil
	}
	ctx := context.Background()
	if err := insert(ctx, db, tx, putAudit, pending.records, auditValues); err != nil {
		return fmt.Errorf("store audit records: %w", err)
	}
	return saveHead(ctx, tx, pending)
}

// saveHead replaces the head, if it is the one that the group began with.
func saveHead(ctx context.Context, tx *sql.Tx, pending *pendingAudit) error {
	head := &pending.head
	result, err := tx.ExecContext(ctx, "UPDATE audit_head SET size = $1, last = $2, edge = $3 WHERE id = 1 AND size = $4",
		int64(head.Size), head.Last[:], head.Edge(), int64(pending.from))
	if err != nil {
		return fmt.Errorf("store audit head: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil || n == 1 {
		return err
	}
	if pending.from > 0 {
		return sdk.Errorf(codes.DataLoss, "AUDIT_HEAD", "the audit log was changed by somebody else: it no longer ends with record %d", pending.from).
			WithRemedy("find what was changed with: sop audit verify")
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO audit_head (id, size, last, edge) VALUES (1, $1, $2, $3)", int64(head.Size), head.Last[:], head.Edge())
	if err != nil {
		return fmt.Errorf("store audit head: %w", err)
	}
	return nil
}

func auditValues(args []any, r audit.Record) []any {
	attributes := ""
	if len(r.Attributes) > 0 {
		text, err := json.Marshal(r.Attributes)
		if err == nil { // strings always have a form
			attributes = string(text)
		}
	}
	return append(
		args, int64(r.Seq), r.Time.UnixNano(), r.Actor, r.Action, r.Resource, string(r.Outcome), r.Reason,
		r.RequestID, r.TraceID, r.Token, attributes, r.PrevHash[:], r.Hash[:],
	)
}

func scanAudit(scan func(...any) error) (*audit.Record, error) {
	r := new(audit.Record)
	var seq, at int64
	var attributes string
	var prev, hash []byte
	err := scan(&seq, &at, &r.Actor, &r.Action, &r.Resource, &r.Outcome, &r.Reason,
		&r.RequestID, &r.TraceID, &r.Token, &attributes, &prev, &hash)
	if err != nil {
		return nil, err
	}
	r.Seq, r.Time = uint64(seq), fromNano(at)
	copy(r.PrevHash[:], prev)
	copy(r.Hash[:], hash)
	if len(prev) != len(r.PrevHash) || len(hash) != len(r.Hash) {
		r.Hash = audit.Hash{} // does not verify
	}
	if attributes != "" {
		if err := json.Unmarshal([]byte(attributes), &r.Attributes); err != nil {
			r.Attributes = map[string]string{"damaged": attributes} // does not verify
		}
	}
	return r, nil
}

func auditHead(ctx context.Context, q querier) (audit.Head, error) {
	heads, err := collect(ctx, q, func(scan func(...any) error) (audit.Head, error) {
		var size int64
		var last, edge []byte
		if err := scan(&size, &last, &edge); err != nil {
			return audit.Head{}, err
		}
		return audit.HeadOf(uint64(size), last, edge)
	}, "SELECT size, last, edge FROM audit_head WHERE id = 1")
	if err != nil || len(heads) == 0 {
		return audit.Head{}, err
	}
	return heads[0], nil
}

// Append implements [audit.Store].
func (s *Audit) Append(ctx context.Context, records ...audit.Record) error {
	return s.db.update(ctx, func(tx *sql.Tx) error { return s.db.appendAudit(ctx, tx, records...) })
}

// Head implements [audit.Store].
func (s *Audit) Head(ctx context.Context) (audit.Head, error) {
	head, err := auditHead(ctx, s.db.read)
	return head, s.db.translate(err)
}

// auditPage is how many records Records reads at a time: a reader that takes
// its time holds nothing up.
const auditPage = 2000

// Records implements [audit.Store].
func (s *Audit) Records(ctx context.Context, from uint64) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		next := int64(max(from, 1))
		if from <= 1 {
			next = -1 << 63 // what was put before the first, too
		}
		for {
			page, err := collect(ctx, s.db.read, scanAudit,
				"SELECT "+auditColumns+" FROM audit_records WHERE seq >= $1 AND"+notArchived+" ORDER BY seq LIMIT $2", next, auditPage)
			if err != nil {
				yield(nil, s.db.translate(err))
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if len(page) < auditPage {
				return
			}
			next = int64(page[len(page)-1].Seq) + 1
		}
	}
}

var auditFields = plainColumns(audit.ListFields, columns{"time": {text: "at"}})

// List implements [audit.Store].
func (s *Audit) List(ctx context.Context, f audit.Filter) (audit.Page, error) {
	if f.Limit <= 0 || f.Limit > audit.MaxPage {
		f.Limit = audit.MaxPage
	}
	q := query{dialect: s.db.dialect}
	q.add("seq > ? AND"+notArchived+" AND ", int64(f.After))
	q.where(f.Where, auditFields)
	for _, c := range []struct{ column, value string }{{"actor", f.Actor}, {"resource", f.Resource}, {"outcome", string(f.Outcome)}} {
		if c.value != "" {
			q.add(" AND "+c.column+" = ?", c.value)
		}
	}
	if f.Action != "" {
		q.add(" AND substr(action, 1, length(?)) = ?", f.Action, f.Action)
	}
	if !f.Since.IsZero() {
		q.add(" AND at >= ?", f.Since.UnixNano())
	}
	if !f.Until.IsZero() {
		q.add(" AND at < ?", f.Until.UnixNano())
	}
	beyond, order := " AND seq < ?", "DESC"
	if f.Oldest {
		beyond, order = " AND seq > ?", "ASC"
	}
	if f.Token != "" {
		seq, err := strconv.ParseInt(f.Token, 36, 64)
		if err != nil {
			return audit.Page{}, sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "page token is not one that was given out: %w", err).
				WithRemedy("list again from the first page")
		}
		q.add(beyond, seq)
	}
	q.add(" ORDER BY seq "+order+" LIMIT ?", int64(f.Limit)+1)
	records, err := collect(ctx, s.db.read, scanAudit, "SELECT "+auditColumns+" FROM audit_records WHERE "+q.text.String(), q.args...)
	if err != nil || len(records) <= f.Limit {
		return audit.Page{Records: records}, s.db.translate(err)
	}
	records = records[:f.Limit]
	return audit.Page{Records: records, Next: strconv.FormatInt(int64(records[f.Limit-1].Seq), 36)}, nil
}

// PutCheckpoint implements [audit.Store].
func (s *Audit) PutCheckpoint(ctx context.Context, c *audit.Checkpoint) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2) ON CONFLICT (size) DO NOTHING", int64(c.Size), c.Note)
		return err
	})
}

// Checkpoints implements [audit.Store].
func (s *Audit) Checkpoints(ctx context.Context) ([]*audit.Checkpoint, error) {
	all, err := collect(ctx, s.db.read, scanCheckpoint, "SELECT size, note FROM audit_checkpoints ORDER BY size")
	return all, s.db.translate(err)
}

// Changed implements [audit.Store].
func (s *Audit) Changed() <-chan struct{} { return s.db.audited.Wait() }

// OpenReadOnly opens the database at path for reading, and changes nothing: it
// is for looking at the log while no host runs. A database of another schema is
// refused.
func OpenReadOnly(ctx context.Context, path string) (*DB, error) {
	db, err := openReadOnly(ctx, path)
	if err != nil {
		return nil, err
	}
	var found int
	err = db.read.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name IN ('audit_head', 'audit_archives')").Scan(&found)
	if err == nil && found < 2 {
		err = sdk.Errorf(codes.FailedPrecondition, "STORE_OLDER", "database %s has no audit log as this sop writes it", db.path).
			WithRemedy("start the host once with this sop")
	}
	if err != nil {
		return nil, errors.Join(db.translate(err), db.Close())
	}
	return db, nil
}
