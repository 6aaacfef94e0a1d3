package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// CopyTo writes a consistent copy of the database, as it was at one moment, to a
// file that does not exist, and checks it. Others may write meanwhile. The copy
// is readable by its owner only, and not yet synced to the disk. It is marked as a
// database without a write-ahead log, see [hasStrangeLog].
func (db *DB) CopyTo(ctx context.Context, path string) (err error) {
	if db.path == "" {
		return errors.New("a database in memory is not copied")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // VACUUM INTO takes an empty file
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	source, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: db.path, RawQuery: url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)"}}.Encode()}).String())
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if _, err := source.ExecContext(ctx, "VACUUM INTO $1", path); err != nil {
		return db.translate(err)
	}
	return checkCopy(ctx, path)
}

// checkCopy reads all of a copy.
func checkCopy(ctx context.Context, path string) (err error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"mode": {"ro"}, "immutable": {"1"}}.Encode()}
	copied, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return fmt.Errorf("check the copy of the database: %w", err)
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	said, err := collect(ctx, copied, func(scan func(...any) error) (line string, err error) {
		err = scan(&line)
		return line, err
	}, "PRAGMA integrity_check(5)")
	if err == nil && (len(said) != 1 || said[0] != "ok") {
		err = sdk.Errorf(codes.DataLoss, "STORE_COPY_DAMAGED", "the copy of the database is damaged: %v", said).
			WithRemedy("check the disk, and run `sop audit verify`")
	}
	return err
}
