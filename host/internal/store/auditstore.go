package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"sync"

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
	from    uint64     // size of the log before the group
	head    audit.Head // after the records that are sealed
	records []audit.Record
	sealed  []sealed // of the records
	packer  audit.Packer
	span    *span // once they are written
}

// sealed is what the store itself looks at in a record.
type sealed struct {
	at       int64
	resource uint32
}

// keptBytes and keptRecords bound the memory that one group leaves to the next.
const (
	keptBytes   = 1 << 20
	keptRecords = keptBytes / 256
)

// sealedBeside is from how many records on sealing them is worth a goroutine.
const sealedBeside = 8

// sealing returns what gives the records their places in the log. It must be called.
// Of many it is done beside what the caller goes on with first, where there is a
// processor for that.
func (p *pendingAudit) sealing() (seal func()) {
	if len(p.records) < sealedBeside {
		return p.seal
	}
	seal = sync.OnceFunc(p.seal)
	go seal()
	return seal
}

func (p *pendingAudit) seal() {
	var resource []byte
	for i := range p.records {
		r := &p.records[i]
		p.packer.Seal(&p.head, r)
		resource = append(resource[:0], r.Resource...)
		p.sealed = append(p.sealed, sealed{r.Time.UnixNano(), resourceHash(resource)})
	}
}

// leave hands the memory on to the next group.
func (p *pendingAudit) leave(w *writer) {
	p.packer.Clear(keptBytes)
	w.packer = p.packer
	clear(p.records) // so that nothing is kept that they speak of
	if w.records, w.sealed = p.records[:0], p.sealed[:0]; cap(w.records) > keptRecords {
		w.records, w.sealed = nil, nil
	}
}

// appendAudit appends records to the log in the transaction of an update: they
// are there exactly if what they speak of is. Call it from within update only.
func (db *DB) appendAudit(ctx context.Context, tx *sql.Tx, records ...audit.Record) error {
	for i := range records {
		if err := db.appendRecord(ctx, tx, records[i]); err != nil {
			return err
		}
	}
	return nil
}

// appendRecord is appendAudit for one record.
func (db *DB) appendRecord(ctx context.Context, tx *sql.Tx, record audit.Record) error {
	pending := &db.writer.group.audit
	if !pending.loaded {
		if err := db.loadHead(ctx, tx, pending); err != nil {
			return err
		}
	}
	pending.records = append(pending.records, record)
	r := &pending.records[len(pending.records)-1]
	r.Complete(ctx)
	if e, ok := recordEvent(r); ok {
		return db.appendEvents(ctx, tx, e)
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
	pending.records, pending.sealed, pending.packer = db.writer.records, db.writer.sealed, db.writer.packer
	return nil
}

const auditColumns = "seq, record"

var putAudit = bulk{"audit_records (" + auditColumns + ")", 2, ""}

// flushAudit writes what the group has appended and sealed.
func (db *DB) flushAudit(ctx context.Context, tx *sql.Tx, pending *pendingAudit) error {
	if len(pending.records) == 0 {
		return nil
	}
	span := db.writer.span
	db.writer.span = nil
	if span == nil {
		var err error
		if span, err = loadSpan(ctx, tx, int64(pending.from)); err != nil {
			return err
		}
	}
	err := insert(ctx, db, tx, putAudit, pending.packer.Rows(), func(args []any, r audit.Row) []any { return append(args, int64(r.First), r.Bytes) })
	if err != nil {
		return fmt.Errorf("store audit records: %w", err)
	}
	for i, r := range pending.sealed {
		if err := span.note(ctx, tx, int64(pending.from)+int64(i)+1, r.at, r.resource); err != nil {
			return err
		}
	}
	pending.span = span
	pending.leave(db.writer)
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
	if len(records) == 0 {
		return nil
	}
	t := s.db.writer.turn(ctx, true)
	t.records = records
	return s.db.inTurn(t, nil)
}

// Head implements [audit.Store].
func (s *Audit) Head(ctx context.Context) (audit.Head, error) {
	head, err := auditHead(ctx, s.db.read)
	return head, s.db.translate(err)
}

// Records implements [audit.Store].
func (s *Audit) Records(ctx context.Context, from uint64) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		low, err := s.unarchived(ctx)
		if err != nil {
			yield(nil, s.db.translate(err))
			return
		}
		if from > 1 { // what was put before the first, too
			low = max(low, int64(from))
		}
		for r, err := range auditRecords(ctx, s.db.read, stretch{low, math.MaxInt64}, false, blockPage) {
			if !yield(r, s.db.translate(err)) {
				return
			}
		}
	}
}

// List implements [audit.Store].
func (s *Audit) List(ctx context.Context, f audit.Filter) (audit.Page, error) {
	if f.Limit <= 0 || f.Limit > audit.MaxPage {
		f.Limit = audit.MaxPage
	}
	low, err := s.unarchived(ctx)
	if err != nil {
		return audit.Page{}, s.db.translate(err)
	}
	within := stretch{max(int64(f.After)+1, low), math.MaxInt64}
	if f.Token != "" {
		seq, err := strconv.ParseInt(f.Token, 36, 64)
		if err != nil {
			return audit.Page{}, sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "page token is not one that was given out: %w", err).
				WithRemedy("list again from the first page")
		}
		if f.Oldest {
			within.from = max(within.from, seq+1)
		} else {
			within.to = seq - 1
		}
	}
	in, err := s.db.searched(ctx, within, &f)
	if err != nil {
		return audit.Page{}, s.db.translate(err)
	}
	records, err := s.db.find(ctx, in, &f, f.Limit+1)
	if err != nil {
		return audit.Page{}, s.db.translate(err)
	}
	page := audit.Page{Records: records}
	if len(records) > f.Limit {
		page.Records = records[:f.Limit]
		page.Next = strconv.FormatInt(int64(page.Records[f.Limit-1].Seq), 36)
	}
	if f.Token == "" {
		page.Total, err = s.total(ctx, &f, &page)
	}
	return page, s.db.translate(err)
}

// total is how many records there are for a filter, where that is known without
// looking at them; else 0.
func (s *Audit) total(ctx context.Context, f *audit.Filter, first *audit.Page) (int64, error) {
	switch {
	case first.Next == "":
		return int64(len(first.Records)), nil
	case !f.Everything():
		return 0, nil
	}
	head, err := auditHead(ctx, s.db.read)
	if err != nil {
		return 0, err
	}
	archives, err := archived(ctx, s.db.read)
	if err != nil {
		return 0, err
	}
	before := int64(f.After)
	if n := len(archives); n > 0 {
		before = max(before, int64(archives[n-1].Last))
	}
	return max(0, int64(head.Size)-before), nil
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
// is for looking at the log while no host runs. A database of before there was a
// log of this kind, and one that a newer host has written, are refused: what it
// does not know would look like damage.
func OpenReadOnly(ctx context.Context, path string) (*DB, error) {
	db, err := openReadOnly(ctx, path)
	if err != nil {
		return nil, err
	}
	var found int
	err = db.read.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name IN ('audit_head', 'audit_archives', 'audit_spans')").Scan(&found)
	if err == nil && found < 3 {
		err = sdk.Errorf(codes.FailedPrecondition, "STORE_OLDER", "database %s has no audit log as this sop writes it", db.path).
			WithRemedy("start the host once with this sop")
	}
	if err == nil {
		err = db.knowsSchema(ctx)
	}
	if err != nil {
		return nil, errors.Join(db.translate(err), db.Close())
	}
	return db, nil
}
