package store

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/host/internal/trace"
	"github.com/sop-host/sop/sdk"
)

// A group is one transaction that does the work of several callers, one after
// the other and each within its own savepoint, so that one sync to disk serves
// them all. It begins with the first caller and takes in who comes while it
// works; whoever comes while it syncs is in the next one.
const (
	groupSize = 256                  // callers
	groupTime = 5 * time.Millisecond // after which nobody is taken in any more
	queueSize = groupSize            // callers in line for the next group; others wait to get in line
)

// writer gives one caller at a time the turn to write. Its goroutine begins,
// commits and undoes; what a caller does in its turn runs on the caller's own
// goroutine, where its panics belong.
type writer struct {
	db       *DB
	queue    chan *turn
	turns    sync.Pool // that have come to their end
	stop     chan struct{}
	done     chan struct{}
	once     sync.Once
	group    *group      // under way; whoever has the turn may use it
	crowd    int         // callers of the last group
	head     *audit.Head // after the last group; nil: look it up
	span     *span       // of the last records; nil: look it up
	revision int64       // of the last event; negative: look it up
	tokens   tokenRows   // as committed

	// Memory that one group's audit records leave to the next.
	records []audit.Record
	sealed  []sealed
	packer  audit.Packer
}

// turn is one caller's work. Its channels are used again, and have room: nobody waits
// for the other to listen.
type turn struct {
	ctx     context.Context //nolint:containedctx // of one call, which waits for it
	claimed atomic.Bool     // by the writer, who will tell, or by the caller, who has gone
	told    chan told       // by the writer
	over    chan error      // what the work returned

	records []audit.Record // all that it does is to append them, which the writer does for it
	lazy    bool           // it has no savepoint until it asks for one; see lazyTx
	saved   bool           // it has one
}

// told is what the writer tells a caller: to work in tx, and then what came of it. It
// tells only the latter of what it does itself, or where there is no transaction.
type told struct {
	tx  *sql.Tx
	err error
}

// turn returns a turn that has yet to be queued.
func (w *writer) turn(ctx context.Context, lazy bool) *turn {
	t, ok := w.turns.Get().(*turn)
	if !ok {
		t = &turn{told: make(chan told, 1), over: make(chan error, 1)}
	}
	t.ctx, t.lazy = ctx, lazy
	return t
}

// end gives back a turn of which the writer has told what came of it: there is
// nothing in its channels, and the writer does not look at it any more.
func (w *writer) end(t *turn) {
	*t = turn{told: t.told, over: t.over}
	w.turns.Put(t)
}

// claim decides who has a turn that is in line, and is true for one.
func (t *turn) claim() bool { return t.claimed.CompareAndSwap(false, true) }

// tell says what came of a turn.
func (t *turn) tell(err error) { t.told <- told{err: err} }

// outcome waits for that.
func (t *turn) outcome() error { return (<-t.told).err }

// group is a transaction under way.
type group struct {
	tx     *sql.Tx
	turns  []*turn // whose work is in it
	begun  time.Time
	audit  pendingAudit
	events pendingEvents
	tokens pendingTokens
	// history holds changes of tokens that are written with the audit records.
	history []token.Change
}

var (
	errClosed    = errors.New("database is closed")
	errAbandoned = errors.New("the caller panicked")
)

func newWriter(db *DB) *writer {
	w := &writer{db: db, queue: make(chan *turn, queueSize), stop: make(chan struct{}), done: make(chan struct{}), revision: -1, packer: audit.Packer{Limit: blockBytes}}
	go w.run()
	return w
}

// close waits for the group under way.
func (w *writer) close() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}

func (w *writer) run() {
	defer w.turnAway()
	defer close(w.done)
	for {
		select {
		case t := <-w.queue:
			if t.claim() {
				w.serve(t)
			}
		case <-w.stop:
			return
		}
	}
}

// turnAway answers whoever is still in line. Who gets there later sees that nobody
// serves any more.
func (w *writer) turnAway() {
	for {
		select {
		case t := <-w.queue:
			if t.claim() {
				t.tell(errClosed)
			}
		default:
			return
		}
	}
}

// enter puts a turn in line.
func (w *writer) enter(t *turn) error {
	select {
	case w.queue <- t: // which takes no lock of the other channels
	default:
		select {
		case w.queue <- t:
		case <-t.ctx.Done():
			return t.ctx.Err()
		case <-w.done:
			return errClosed
		}
	}
	select {
	case <-w.done:
		if t.claim() {
			return errClosed
		}
	default:
	}
	return nil
}

// update runs fn in a write transaction, alone among writers. What fn did is
// durable when update returns nil, and undone when fn returns an error or
// panics, or ctx is done before fn has returned. fn uses nothing of the store
// but tx. The transaction is shared with other callers that come at the same
// time; they neither see each other's failures nor suffer from them.
func (db *DB) update(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return db.inTurn(db.writer.turn(ctx, false), fn)
}

// lazily is update for work that mostly leaves what it does to the end of the
// group, and reads: it gets a savepoint, which costs as much as a small write, only
// if it asks for one by [lazyTx.writing].
func (db *DB) lazily(ctx context.Context, fn func(tx *lazyTx) error) error {
	t := db.writer.turn(ctx, true)
	return db.inTurn(t, func(tx *sql.Tx) error { return fn(&lazyTx{tx, db.writer.group, t}) })
}

// lazyTx is the transaction of a group in a turn of lazily.
type lazyTx struct {
	tx    *sql.Tx // to read from
	group *group
	turn  *turn
}

// writing returns the transaction to write to.
func (l *lazyTx) writing(ctx context.Context) (*sql.Tx, error) {
	return l.tx, l.turn.save(ctx, l.group)
}

// save makes a savepoint to which the turn can be undone.
func (t *turn) save(ctx context.Context, g *group) error {
	if t.saved || len(g.turns) == 0 { // the first has nothing else to undo
		return nil
	}
	if _, err := g.tx.ExecContext(ctx, "SAVEPOINT caller"); err != nil {
		return err
	}
	t.saved = true
	return nil
}

// inTurn has fn do the work of a turn; without fn, the turn's records are appended.
func (db *DB) inTurn(t *turn, fn func(tx *sql.Tx) error) (err error) {
	if err := db.check.found(); err != nil {
		return err
	}
	ctx, span := trace.Start(t.ctx, trace.Internal, "store transaction")
	defer func() {
		db.watch.came(err)
		span.End(err)
	}()
	db.watch.waiting.Add(1)
	defer db.watch.waiting.Add(-1)
	w := db.writer
	t.ctx = ctx
	if err := w.enter(t); err != nil {
		return err
	}
	var said told
	select {
	case said = <-t.told:
	case <-ctx.Done():
		if t.claim() {
			return ctx.Err() // the writer has yet to see that
		}
		said = <-t.told
	}
	if err = said.err; said.tx != nil {
		err = t.run(said.tx, fn)
	}
	w.end(t)
	return db.translate(err)
}

// run does the work and waits for what comes of it.
func (t *turn) run(tx *sql.Tx, fn func(tx *sql.Tx) error) error {
	returned := false
	defer func() {
		if !returned { // a panic, or the end of the goroutine
			t.over <- errAbandoned
			_ = t.outcome() // that it was undone
		}
	}()
	err := fn(tx)
	if err == nil {
		err = t.ctx.Err()
	}
	returned = true
	t.over <- err
	return t.outcome()
}

// serve begins a group with first, takes in others, and commits.
func (w *writer) serve(first *turn) {
	if err := w.db.place.check(); err != nil {
		first.tell(err)
		return
	}
	tx, err := w.db.write.BeginTx(context.Background(), nil)
	if err != nil {
		first.tell(err)
		return
	}
	w.group = &group{tx: tx, begun: time.Now()}
	defer func() { w.group = nil }()
	for t := first; t != nil; t = w.next() {
		if err := w.take(t); err != nil {
			w.answer(errors.Join(err, ignoreDone(tx.Rollback())))
			return
		}
		if len(w.group.turns) == 0 { // the first has failed, and all is undone
			return
		}
	}
	committing := time.Now()
	if err = w.commit(); err == nil {
		err = w.db.place.check()
	}
	w.db.observeGroup(len(w.group.turns), time.Since(committing), err)
	if err == nil && w.db.copying != nil {
		w.db.copying.wrote(len(w.group.turns))
	}
	w.answer(err)
}

// next returns who else wants to write now, or nil. After a group of several,
// those who were just answered may be on their way back: they get the chance to
// arrive, which makes the difference between large groups and a large one and a
// small one in turns. They get it once in any case: on a single processor nobody has
// come near the queue since the group began.
func (w *writer) next() *turn {
	g := w.group
	if len(g.turns) >= groupSize || time.Since(g.begun) > groupTime {
		return nil
	}
	for tries := 0; ; tries++ {
		select {
		case t := <-w.queue:
			if t.claim() {
				return t
			}
			continue
		default:
		}
		if tries > 0 && len(g.turns) >= w.crowd || tries >= maxYields {
			return nil
		}
		runtime.Gosched()
	}
}

// maxYields bounds how often others are let run before a group is closed.
const maxYields = 64

// take lets t do its work. What fails is undone alone; an error says that the
// whole group is lost.
func (w *writer) take(t *turn) error {
	ctx := context.Background()
	g := w.group
	first := len(g.turns) == 0 // then there is nothing else to undo
	if !t.lazy {
		if err := t.save(ctx, g); err != nil {
			t.tell(err)
			return lost(err)
		}
	}
	records, told, changes, tokens := len(g.audit.records), g.events, len(g.history), g.tokens.mark()
	err := w.work(t)
	if err == nil && t.saved {
		if _, err := g.tx.ExecContext(ctx, "RELEASE caller"); err != nil {
			t.tell(err)
			return lost(err)
		}
	}
	if err == nil {
		g.turns = append(g.turns, t)
		return nil
	}
	g.audit.records = g.audit.records[:records]
	g.events = told
	g.history = g.history[:changes]
	g.tokens.reset(tokens)
	if first {
		t.tell(errors.Join(err, ignoreDone(g.tx.Rollback())))
		return nil
	}
	var undo error
	if t.saved {
		_, undo = g.tx.ExecContext(ctx, "ROLLBACK TO caller")
	}
	if t.saved && undo == nil {
		_, undo = g.tx.ExecContext(ctx, "RELEASE caller")
	}
	t.tell(err)
	if undo != nil {
		return lost(err)
	}
	return nil
}

// work gives the turn to the caller and waits, or does itself what there is to do.
func (w *writer) work(t *turn) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if t.records != nil {
		return w.db.appendAudit(t.ctx, w.group.tx, t.records...)
	}
	t.told <- told{tx: w.group.tx}
	return <-t.over
}

// lost is what callers are told whose transaction the engine gave up, for what
// befell another: a full or failing disk.
func lost(cause error) error {
	e := sdk.Errorf(codes.Unavailable, "STORE_GROUP_LOST", "the database gave up the transaction, and nothing of it was stored: %w", cause).
		WithRemedy("look at the file system beneath the database, and try again")
	e.Retryable = true
	return e
}

// commit writes what callers left for the end, many rows with one statement:
// tokens and their history, the audit records and the events. Then it makes all
// durable. What is known of the database is believed again once that has been done.
func (w *writer) commit() error {
	g := w.group
	rows := w.tokens
	w.tokens = tokenRows{}
	ctx := context.Background() // the work of several callers is no one's to give up
	seal := g.audit.sealing()
	err := w.db.flushTokens(ctx, g.tx, &g.tokens)
	if err == nil {
		err = w.db.flushAnswers(ctx, g.tx, &g.tokens)
	}
	if err == nil {
		err = w.db.flushHistory(ctx, g.tx, g.history)
	}
	seal()
	if err == nil && (g.audit.loaded || g.events.loaded) {
		w.head, w.revision = nil, -1
		err = w.db.flushAudit(ctx, g.tx, &g.audit)
	}
	if err == nil {
		err = w.db.flushEvents(ctx, g.tx, &g.events)
	}
	if err != nil {
		return errors.Join(err, ignoreDone(g.tx.Rollback()))
	}
	if err := g.tx.Commit(); err != nil {
		return err
	}
	w.tokens = rows
	w.tokens.committed(&g.tokens)
	if g.audit.loaded {
		w.head = &g.audit.head
	}
	if g.audit.span != nil {
		w.span = g.audit.span
	}
	if g.events.loaded {
		w.revision = g.events.last
	}
	return nil
}

// answer tells everybody in the group what came of it.
func (w *writer) answer(err error) {
	g := w.group
	if err == nil && len(g.audit.records) > 0 {
		w.db.audited.Tell()
	}
	if err == nil && len(g.events.events) > 0 {
		w.db.happened.Tell()
	}
	w.crowd = len(g.turns)
	for _, t := range g.turns {
		t.tell(err)
	}
}

// ignoreDone forgives an undo where there is nothing left to undo.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
