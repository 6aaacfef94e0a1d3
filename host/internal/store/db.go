package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"google.golang.org/grpc/codes"
	_ "modernc.org/sqlite" // registers the driver

	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/sdk"
)

//go:embed migrations
var migrations embed.FS

// readers is how many connections read at a time.
const readers = 4

// DB is an open database. It is safe for concurrent use; whoever opened it
// closes it.
type DB struct {
	path     string // empty: in memory
	dialect  *dialect
	write    *sql.DB      // one connection
	read     *sql.DB      // the same in memory
	writer   *writer      // nil where nothing is written
	audited  event.Notice // of the audit log
	happened event.Notice // of the journal of events
	watch    watch
	check    structureCheck
	copying  *checkpointer // nil in memory, and where nothing is written
	place    place
	logAside string
}

// Open opens the SQLite database at path, makes it where there is none, and
// brings its schema up to date. The file is readable by its owner only, and so
// is the directory if it is made here. A database of a newer schema, and one
// that is damaged, is refused and left as it is. The log of another database, over which this one was
// restored, is put aside.
func Open(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	err = prepareFile(abs)
	var aside string
	if err == nil {
		aside, err = putStrangeLogAside(abs)
	}
	if err != nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "STORE_UNUSABLE", "open database %s: %w", abs, err).
			WithRemedy("make the file and its directory writable for the user that runs sop")
	}
	write, err := openPatient(dsn(abs, url.Values{"_txlock": {"immediate"}}))
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn(abs, url.Values{"_pragma": {"query_only(1)"}}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return start(ctx, &DB{path: abs, dialect: &sqliteDialect, write: write, read: read, logAside: aside})
}

// OpenMemory opens a database that is gone when it is closed.
func OpenMemory(ctx context.Context) (*DB, error) {
	db, err := openPatient("file::memory:?_txlock=immediate&_pragma=foreign_keys(1)")
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(1) // a second connection would be a second database
	db.SetMaxIdleConns(1)
	return start(ctx, &DB{dialect: &sqliteDialect, write: db, read: db})
}

// start migrates and, if that fails, closes.
func start(ctx context.Context, db *DB) (*DB, error) {
	err := db.migrate(ctx)
	if err == nil {
		db.place, err = placeOf(db.path)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if db.read != db.write {
		db.copying = newCheckpointer(db.read)
	}
	db.writer = newWriter(db)
	db.check.goOn(db)
	return db, nil
}

// openReadOnly opens what is there. What a host left in the write-ahead log is
// read too; without one, or with another's, not even the index of that log is made.
func openReadOnly(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	q := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "query_only(1)"}}
	strange, err := hasStrangeLog(abs)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if info, err := os.Stat(abs + "-wal"); err != nil || info.Size() == 0 || strange {
		q.Set("immutable", "1")
	}
	read, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{path: abs, dialect: &sqliteDialect, write: read, read: read}
	if err := read.PingContext(ctx); err != nil {
		return nil, errors.Join(db.translate(err), read.Close())
	}
	return db, nil
}

// Close closes the database. It waits for what is under way, and may be called
// again.
func (db *DB) Close() error {
	db.check.end()
	if db.writer != nil {
		db.writer.close()
	}
	if db.copying != nil {
		db.copying.end()
	}
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close()) // the writer last: it ends the log
}

// dsn names the database at path with what every connection sets, and extra.
func dsn(path string, extra url.Values) string {
	const key = "_pragma"
	q := maps.Clone(extra)
	q[key] = append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)", "wal_autocheckpoint(4000)", "cache_size(-16000)"}, extra[key]...)
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// prepareFile makes what is not there, so that it never has the wide
// permissions of the umask, and tightens what is.
func prepareFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

// goMigrations are the steps that SQL alone cannot do.
func goMigrations() []*goose.Migration {
	return []*goose.Migration{
		goose.NewGoMigration(8, &goose.GoFunc{RunTx: storeAuditForms}, nil),
		goose.NewGoMigration(16, &goose.GoFunc{RunTx: storeEventForms}, nil),
		goose.NewGoMigration(17, &goose.GoFunc{RunTx: storeHistoryForms}, nil),
	}
}

// migrator knows the schema and how to bring it up to date.
func (db *DB) migrator() (*goose.Provider, error) {
	sub, err := fs.Sub(migrations, db.dialect.migrations)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	provider, err := goose.NewProvider(db.dialect.goose, db.write, sub, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(goMigrations()...))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

// migrate brings the schema up to date.
func (db *DB) migrate(ctx context.Context) error {
	provider, err := db.migrator()
	if err != nil {
		return err
	}
	if err := db.check.begin(ctx, db); err != nil {
		return err
	}
	if err := db.create(ctx, provider); err != nil {
		return db.translate(err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return db.translate(err)
	}
	if err := db.newer(current, target); err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return db.translate(err)
	}
	return nil
}

// newer is the error of a schema that this program does not know yet.
func (db *DB) newer(current, target int64) error {
	if current <= target {
		return nil
	}
	return sdk.Errorf(codes.FailedPrecondition, "STORE_NEWER", "database %s has schema %d, newer than schema %d of this sop", db.path, current, target).
		WithRemedy("run the newer sop, or restore a backup from before it was run")
}

func (db *DB) corrupt(cause error) error {
	return sdk.Errorf(codes.DataLoss, "STORE_CORRUPT", "database %s is damaged: %w", db.path, cause).
		WithRemedy("stop the host, move %[1]s, %[1]s-wal and %[1]s-shm away, and restore the database from a backup; or move audit.key and audit.pub away, too, to begin with nothing; what is damaged is not written to", filepath.Base(db.path))
}

// Why the database takes no writes, for what is wrong beneath it.
const (
	reasonFull     = "STORE_FULL"
	reasonReadOnly = "STORE_READ_ONLY"
	reasonIO       = "STORE_IO"
	reasonGone     = "STORE_GONE"
)

// translate gives errors of the engine the host's vocabulary.
func (db *DB) translate(err error) error {
	if err == nil {
		return nil
	}
	var own *sdk.Error
	var coded interface{ Code() int }
	switch {
	case errors.As(err, &own), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case !errors.As(err, &coded):
		return fmt.Errorf("database: %w", err)
	}
	const (
		busy, locked, readOnly, ioErr, corrupt, full, notADB = 5, 6, 8, 10, 11, 13, 26
		primary                                              = 0xff
	)
	switch coded.Code() & primary {
	case corrupt, notADB:
		return db.corrupt(err)
	case full:
		return sdk.Errorf(codes.ResourceExhausted, reasonFull, "database %s cannot grow: %w", db.path, err).
			WithRemedy("make room on the file system")
	case readOnly:
		return sdk.Errorf(codes.FailedPrecondition, reasonReadOnly, "database %s cannot be written: %w", db.path, err).
			WithRemedy("make the file, its directory and the file system beneath them writable for the user that runs sop")
	case ioErr:
		return sdk.Errorf(codes.Unavailable, reasonIO, "database %s: %w", db.path, err).
			WithRemedy("look at the file system beneath it")
	case busy, locked:
		e := sdk.Errorf(codes.Unavailable, "STORE_BUSY", "database %s is held by another process: %w", db.path, err)
		e.Retryable = true
		return e
	}
	return fmt.Errorf("database: %s", strings.TrimSpace(err.Error()))
}
