package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A database that is restored over that of a host which was killed has the write-ahead
// log of the other beside it. SQLite would replay that log over it and so destroy it:
// nothing in a log says whose it is. But the header of a database says whether it has
// a log at all. SQLite writes that before it makes the log, and a copy that
// [DB.CopyTo] has made has none. So a log beside a database that has none is
// another's, and is put aside before SQLite sees either.

const (
	magic = "SQLite format 3\x00" // what a database begins with
	// writtenAt is where the header says how the database is written to.
	writtenAt = 18
	// withoutLog is what it says there of a database that has no write-ahead log.
	withoutLog = 1
)

// hasStrangeLog says whether the log beside the database at path is another's.
func hasStrangeLog(path string) (bool, error) {
	info, err := os.Stat(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // it was read only
	header := make([]byte, writtenAt+1)
	switch _, err := io.ReadFull(f, header); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return false, nil // it is no database, and SQLite says so
	case err != nil:
		return false, err
	}
	return string(header[:len(magic)]) == magic && header[writtenAt] == withoutLog, nil
}

// putStrangeLogAside renames the log beside the database at path if it is another's,
// and returns its new path, or nothing. What was put aside before is replaced.
func putStrangeLogAside(path string) (aside string, err error) {
	strange, err := hasStrangeLog(path)
	if err != nil || !strange {
		return "", err
	}
	aside = path + "-wal.aside"
	if err := os.Rename(path+"-wal", aside); err != nil {
		return "", err
	}
	if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) { // the index of that log
		return "", err
	}
	return aside, syncDir(filepath.Dir(path)) // the log must not come back when the database has one of its own
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// LogAside is where the write-ahead log of another database was put that lay beside
// this one when it was opened; empty: there was none.
func (db *DB) LogAside() string { return db.logAside }
