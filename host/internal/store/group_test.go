package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
)

func openGroups(t testing.TB) *DB {
	t.Helper()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.write.ExecContext(t.Context(), "CREATE TABLE work (n INTEGER NOT NULL UNIQUE)"); err != nil {
		t.Fatal(err)
	}
	return db
}

// hold makes the writer busy until release is called, so that those who come
// meanwhile are one group with it.
func hold(t *testing.T, db *DB) (release func() error) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- db.update(context.Background(), func(*sql.Tx) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	db.writer.crowd = 1 << 20 // waits for more: we have the turn, and may say so
	return func() error {
		close(free)
		return <-done
	}
}

func work(ctx context.Context, db *DB, n int) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO work (n) VALUES ($1)", n)
		return errors.Join(err, db.appendAudit(ctx, tx, audit.Record{Resource: fmt.Sprint(n)}))
	}
}

var errWork = errors.New("work failed")

// Each caller of a group is told of its own failure, and of nobody else's; what
// failed is undone, with its audit record, and nothing else is.
func TestGroupKeepsCallersApart(t *testing.T) {
	db := openGroups(t)
	release := hold(t, db)
	const callers = 60
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			defer func() {
				if p := recover(); (p != nil) != (i%6 == 3) {
					t.Errorf("caller %d: panic %v", i, p)
				}
			}()
			errs[i] = db.update(ctx, func(tx *sql.Tx) error {
				err := work(ctx, db, i)(tx)
				switch i % 6 {
				case 1:
					return errors.Join(err, errWork)
				case 2: // violates the constraint
					err = errors.Join(err, work(ctx, db, i)(tx))
				case 3:
					panic("work")
				case 4:
					cancel()
				}
				return err
			})
		})
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for i, err := range errs {
		good := map[int]bool{0: err == nil, 1: errors.Is(err, errWork), 2: err != nil, 3: err == nil, 4: errors.Is(err, context.Canceled), 5: err == nil}
		if !good[i%6] {
			t.Errorf("caller %d: %v", i, err)
		}
	}
	count(t, db, "SELECT count(*) FROM work WHERE n % 6 IN (0, 5)", callers/3)
	count(t, db, "SELECT count(*) FROM work", callers/3)
	count(t, db, "SELECT size FROM audit_head", callers/3)
	done := make(map[string]bool)
	for r, err := range db.Audit().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		done[r.Resource] = true
		count(t, db, "SELECT count(*) FROM work WHERE n = "+r.Resource, 1)
	}
	if len(done) != callers/3 {
		t.Errorf("records of %d callers", len(done))
	}
	count(t, db, "SELECT size FROM audit_head", callers/3)
}

func count(t *testing.T, db *DB, query string, want int) {
	t.Helper()
	var got int
	if err := db.read.QueryRowContext(t.Context(), query).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s: %d, want %d", query, got, want)
	}
}

// A test that ends in its turn ends alone.
func TestGoexitGivesTheTurnBack(t *testing.T) {
	db := openGroups(t)
	t.Run("skipped", func(t *testing.T) {
		err := db.update(t.Context(), func(*sql.Tx) error { t.Skip("a skip in a turn is what is tested"); return nil })
		t.Error("not skipped", err)
	})
	if err := db.update(t.Context(), work(t.Context(), db, 1)); err != nil {
		t.Error(err)
	}
}

// inLine waits until so many are in line for the next group.
func inLine(t *testing.T, db *DB, n int) {
	t.Helper()
	for len(db.writer.queue) < n && t.Context().Err() == nil {
		runtime.Gosched()
	}
}

// Who gives up while it waits for its turn is not waited for, and leaves nothing.
func TestGroupLeavesWhoHasGone(t *testing.T) {
	db := openGroups(t)
	release := hold(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- db.update(ctx, work(ctx, db, 1)) }()
	go func() { done <- db.Audit().Append(ctx, audit.Record{Resource: "1"}) }()
	inLine(t, db, 2)
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := db.update(t.Context(), work(t.Context(), db, 2)); err != nil {
		t.Error(err)
	}
	count(t, db, "SELECT count(*) FROM work", 1)
	count(t, db, "SELECT size FROM audit_head", 1)
}

// When the record cannot be written, what it speaks of does not happen.
func TestNoRecordNoChange(t *testing.T) {
	db := openGroups(t)
	if _, err := db.write.ExecContext(t.Context(), "CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'full'); END"); err != nil {
		t.Fatal(err)
	}
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := db.update(t.Context(), work(t.Context(), db, i)); err == nil {
				t.Error("done without a record")
			}
		})
	}
	_ = release() // may be in the group, and then is told so too
	wg.Wait()
	count(t, db, "SELECT count(*) FROM work", 0)
}

func TestClosed(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := db.update(t.Context(), func(*sql.Tx) error { return nil }); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}

// Whoever is in line when the database is closed, or would get there, is served yet or
// told so, and then nothing of theirs is stored.
func TestClosedWhileInLine(t *testing.T) {
	db := openGroups(t)
	release := hold(t, db)
	const more = 16 // than the line has room for
	done := make(chan error)
	for i := range queueSize + more {
		go func() {
			if i%2 == 0 {
				done <- db.update(t.Context(), work(t.Context(), db, i))
			} else {
				done <- db.Audit().Append(t.Context(), audit.Record{Resource: fmt.Sprint(i)})
			}
		}()
	}
	inLine(t, db, queueSize)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		db.writer.close()
	}()
	<-db.writer.stop
	if err := release(); err != nil {
		t.Error(err)
	}
	stored := 0
	for range queueSize + more {
		if err := <-done; err == nil {
			stored++
		} else if !errors.Is(err, errClosed) {
			t.Error(err)
		}
	}
	<-closed
	count(t, db, "SELECT coalesce(max(size), 0) FROM audit_head", stored)
	if err := db.update(t.Context(), work(t.Context(), db, 0)); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkUpdate compares durable work with its audit record: callers that
// share syncs with callers one by one, and without the record.
func BenchmarkUpdate(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		for _, record := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/audit=%v", callers, record), func(b *testing.B) {
				db := openGroups(b)
				jobs := make(chan int)
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for n := range jobs {
							err := db.update(context.Background(), func(tx *sql.Tx) error {
								if record {
									return work(context.Background(), db, n)(tx)
								}
								_, err := tx.ExecContext(context.Background(), "INSERT INTO work (n) VALUES ($1)", n)
								return err
							})
							if err != nil {
								b.Error(err)
							}
						}
					})
				}
				n := 0
				for b.Loop() {
					jobs <- n
					n++
				}
				close(jobs)
				wg.Wait()
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "op/s")
			})
		}
	}
}

// On a single processor, too, callers that come over connections share groups: they
// are let run before one is closed.
func TestGroupsOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	db := openGroups(t)
	var groups, turns int // the writer's
	db.OnGroup(func(size int, _ time.Duration, err error) {
		groups, turns = groups+1, turns+size
		if err != nil {
			t.Error(err)
		}
	})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	const callers, calls = 32, 30
	var wg sync.WaitGroup
	talk := func(conn net.Conn, err error, turn func(net.Conn) error) {
		for i := 0; i < calls && err == nil; i++ {
			err = turn(conn)
		}
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}
	for range callers {
		wg.Go(func() {
			conn, err := net.Dial("unix", l.Addr().String())
			talk(conn, err, func(conn net.Conn) error { // ask, and wait for the answer
				_, err := conn.Write([]byte{1})
				if err == nil {
					_, err = conn.Read(make([]byte, 1))
				}
				return err
			})
		})
		wg.Go(func() {
			conn, err := l.Accept()
			talk(conn, err, func(conn net.Conn) error { // write what is asked for, and answer
				_, err := conn.Read(make([]byte, 1))
				if err == nil {
					err = db.update(t.Context(), func(*sql.Tx) error { return nil })
				}
				if err == nil {
					_, err = conn.Write([]byte{1})
				}
				return err
			})
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if turns != callers*calls || turns/groups < callers/4 {
		t.Errorf("%d turns of %d callers in %d groups", turns, callers, groups)
	}
}
