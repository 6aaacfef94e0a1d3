package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/sop-host/sop/host/internal/audit"
)

// Verifying a million records through rows and columns costs ten times what
// hashing them does. Digests reads the pages of the table instead, in one
// snapshot and through SQLite itself, and takes the rows out of them here: the
// format of a table page is fixed for good (sqlite.org/fileformat2.html). What
// looks in any way unusual is not judged but left to the ordinary way.

var errUnusual = errors.New("the table is not laid out as expected")

// Digests reads all audit records for verification, see [audit.Digest].
func (s *Audit) Digests(ctx context.Context) iter.Seq2[[]audit.Digest, error] {
	return func(yield func([]audit.Digest, error) bool) {
		if s.db.path == "" { // the one connection is not to be held
			yield(nil, errors.ErrUnsupported)
			return
		}
		if err := s.db.digests(ctx, func(d []audit.Digest) bool { return yield(d, nil) }); err != nil {
			yield(nil, s.db.translate(err))
		}
	}
}

func (db *DB) digests(ctx context.Context, yield func([]audit.Digest) bool) (err error) {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreDone(tx.Rollback())) }()
	p, err := newPager(ctx, tx)
	if err != nil {
		return err
	}
	defer p.close()
	leaves, err := p.leaves(ctx)
	if err != nil {
		return err
	}
	return p.digest(ctx, leaves, yield)
}

// pager reads pages of the table in one transaction.
type pager struct {
	query  *sql.Stmt
	root   uint32
	usable int // bytes of a page
	count  int // pages of the database
}

func newPager(ctx context.Context, tx *sql.Tx) (*pager, error) {
	p := &pager{}
	var columns string
	err := tx.QueryRowContext(ctx, `SELECT rootpage, (SELECT group_concat(name, ', ') FROM pragma_table_info('audit_records')),
		(SELECT page_count FROM pragma_page_count) FROM sqlite_master WHERE type = 'table' AND name = 'audit_records'`).Scan(&p.root, &columns, &p.count)
	if err != nil {
		return nil, err
	}
	if columns != auditColumns {
		return nil, errUnusual
	}
	p.query, err = tx.PrepareContext(ctx, "SELECT p.data FROM json_each(?) j CROSS JOIN sqlite_dbpage('main') p WHERE p.pgno = j.value")
	if err != nil {
		return nil, err
	}
	first, err := p.read(ctx, []uint32{1})
	if err != nil {
		p.close()
		return nil, err
	}
	const reservedAt, encodingAt, utf8 = 20, 59, 1
	header := first[0]
	p.usable = len(header) - int(header[reservedAt])
	if header[encodingAt] != utf8 {
		p.close()
		return nil, errUnusual
	}
	return p, nil
}

func (p *pager) close() { _ = p.query.Close() } // the transaction decides

// read returns pages by their numbers, in that order.
func (p *pager) read(ctx context.Context, numbers []uint32) (pages [][]byte, err error) {
	list, err := json.Marshal(numbers)
	if err != nil {
		return nil, err
	}
	rows, err := p.query.QueryContext(ctx, string(list))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	pages = make([][]byte, 0, len(numbers))
	for rows.Next() {
		var page sql.RawBytes
		if err := rows.Scan(&page); err != nil {
			return nil, err
		}
		if len(page) < 512 {
			return nil, errUnusual
		}
		pages = append(pages, page) // the driver makes each anew
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(pages) != len(numbers) {
		return nil, errUnusual
	}
	return pages, nil
}

const (
	interiorPage, leafPage = 5, 13 // of a table
	maxTreeDepth           = 20
	pagesAtATime           = 128
)

// leaves walks down from the root and returns the leaf pages in order.
func (p *pager) leaves(ctx context.Context) ([]uint32, error) {
	level := []uint32{p.root}
	for range maxTreeDepth {
		one, err := p.read(ctx, level[:1])
		if err != nil {
			return nil, err
		}
		if one[0][0] == leafPage {
			return level, nil
		}
		var below []uint32
		for some := range slices.Chunk(level, pagesAtATime) {
			pages, err := p.read(ctx, some)
			if err != nil {
				return nil, err
			}
			for _, page := range pages {
				if below, err = p.children(page, below); err != nil {
					return nil, err
				}
				if len(below) > p.count { // pages lead to each other in a circle
					return nil, errUnusual
				}
			}
		}
		level = below
	}
	return nil, errUnusual
}

// children appends the pages that an interior page leads to.
func (p *pager) children(page []byte, to []uint32) ([]uint32, error) {
	const header, rightmostAt = 12, 8
	if page[0] != interiorPage {
		return nil, errUnusual
	}
	n := int(binary.BigEndian.Uint16(page[3:]))
	for i := range n {
		at, ok := p.cell(page, header, i)
		if !ok || at+4 > p.usable {
			return nil, errUnusual
		}
		to = append(to, binary.BigEndian.Uint32(page[at:]))
	}
	return append(to, binary.BigEndian.Uint32(page[rightmostAt:])), nil
}

// cell returns where the i-th cell of a page is.
func (p *pager) cell(page []byte, header, i int) (int, bool) {
	pointer := header + 2*i
	if pointer+2 > p.usable {
		return 0, false
	}
	at := int(binary.BigEndian.Uint16(page[pointer:]))
	return at, at < p.usable
}

// batch is some pages on their way through a worker. It is used again once what
// came of them has been yielded.
type batch struct {
	pages   [][]byte
	digests []audit.Digest
	done    chan bool // false: unusual
}

// digest reads leaves in one goroutine, hashes their rows in others, and yields
// what they return in order.
func (p *pager) digest(ctx context.Context, leaves []uint32, yield func([]audit.Digest) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := runtime.GOMAXPROCS(0)
	todo, order, free := make(chan *batch), make(chan *batch, 2*workers), make(chan *batch, 4*workers)
	for range cap(free) {
		free <- &batch{done: make(chan bool, 1)}
	}
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer close(order)
		defer close(todo)
		if err := p.feed(ctx, leaves, free, todo, order); err != nil {
			failed <- err
		}
	})
	for range workers {
		wg.Go(func() {
			for b := range todo {
				var usual bool
				b.digests, usual = p.rows(b.pages, b.digests[:0])
				b.done <- usual
			}
		})
	}
	for b := range order {
		if usual := <-b.done; !usual {
			return errUnusual
		}
		if !yield(b.digests) {
			return nil
		}
		free <- b
	}
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

// feed reads the leaves and hands each batch to a worker and to whoever waits
// for what comes of it.
func (p *pager) feed(ctx context.Context, leaves []uint32, free <-chan *batch, todo, order chan<- *batch) error {
	for some := range slices.Chunk(leaves, pagesAtATime) {
		var b *batch
		select {
		case b = <-free:
		case <-ctx.Done():
			return nil
		}
		var err error
		if b.pages, err = p.read(ctx, some); err != nil {
			return err
		}
		select {
		case todo <- b:
		case <-ctx.Done():
			return nil
		}
		select {
		case order <- b:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// rows hashes the records of leaf pages and appends what comes of it; false says
// that a page is not one.
func (p *pager) rows(pages [][]byte, to []audit.Digest) ([]audit.Digest, bool) {
	var u audit.Unpacker
	for _, page := range pages {
		if page[0] != leafPage {
			return to, false
		}
		const header = 8
		n := int(binary.BigEndian.Uint16(page[3:]))
		for i := range n {
			at, ok := p.cell(page, header, i)
			if !ok {
				return to, false
			}
			if to, ok = readCell(page[at:p.usable], p.usable, &u, to); !ok {
				return to, false
			}
		}
	}
	return to, true
}

// readCell hashes the records of the row in a cell of a leaf and appends what
// comes of it. A row that is continued on other pages, or is not a number and a
// blob, is unread.
func readCell(cell []byte, usable int, u *audit.Unpacker, to []audit.Digest) ([]audit.Digest, bool) {
	size, n := varint(cell)
	key, m := varint(cell[n:])
	if n == 0 || m == 0 {
		return to, false
	}
	payload := cell[n+m:]
	unread := audit.Digest{Seq: key, Unread: true}
	if size > uint64(usable-35) {
		return append(to, unread), true
	}
	if size > uint64(len(payload)) {
		return to, false
	}
	block, ok := storedBlock(payload[:size])
	if !ok {
		return append(to, unread), true
	}
	for u.Open(int64(key), block); ; {
		digest := u.Digest()
		if digest.Unread && digest.Seq != key { // something that is no record stands behind one
			return to, false
		}
		if to = append(to, digest); !u.More() {
			return to, true
		}
	}
}

// storedBlock takes a row apart: a header with its own size and a type for each
// column, then the values. The key of the row is not among them: its type is 0.
func storedBlock(payload []byte) ([]byte, bool) {
	header, n := varint(payload)
	if n == 0 || header > uint64(len(payload)) || header < uint64(n)+2 || payload[n] != 0 {
		return nil, false
	}
	kind, m := varint(payload[n+1 : header])
	value := payload[header:]
	if m == 0 || uint64(n+1+m) != header || kind < 12 || kind%2 == 1 || (kind-12)/2 != uint64(len(value)) {
		return nil, false
	}
	return value, true
}

// varint reads an integer of one to nine bytes; n is 0 where there is none.
func varint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
