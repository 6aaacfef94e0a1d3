package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
)

// maxStatements bounds how many prepared statements a connection keeps.
const maxStatements = 128

// statements are the prepared statements of one connection, by text: to read a
// statement and plan it costs SQLite several times what it costs to run it.
// SQLite plans a kept statement anew when the schema has changed. Like the
// connection, it is used by one goroutine at a time.
type statements struct {
	conn driver.ConnPrepareContext
	kept map[string]*statement
}

// statement is a prepared statement.
type statement struct {
	fullStmt
	busy bool // its rows are being read
	kept bool
}

type fullStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

var errDriver = errors.New("the SQLite driver lacks an interface")

// get returns the statement for a text; whoever gets it releases it.
func (s *statements) get(ctx context.Context, text string) (*statement, error) {
	if known := s.kept[text]; known != nil && !known.busy {
		known.busy = true
		return known, nil
	}
	prepared, err := s.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	full, ok := prepared.(fullStmt)
	if !ok {
		return nil, errors.Join(errDriver, prepared.Close())
	}
	fresh := &statement{fullStmt: full, busy: true}
	if isOften(text) && s.kept[text] == nil && s.room() {
		fresh.kept = true
		s.kept[text] = fresh
	}
	return fresh, nil
}

// isOften says that a text is of the kind that is run again and again, and not
// of those that make the schema or set the connection up.
func isOften(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "SAVEPOINT", "RELEASE", "ROLLBACK":
		return true
	}
	return text == sqliteDialect.version
}

// room makes room for one more by closing any one that is not in use.
func (s *statements) room() bool {
	if len(s.kept) < maxStatements {
		return true
	}
	for text, old := range s.kept {
		if !old.busy {
			delete(s.kept, text)
			return old.Close() == nil
		}
	}
	return false
}

// release gives the statement back.
func (s *statement) release() error {
	s.busy = false
	if s.kept {
		return nil
	}
	return s.Close()
}

// close closes what is kept.
func (s *statements) close() error {
	var errs []error
	for text, old := range s.kept {
		delete(s.kept, text)
		errs = append(errs, old.Close())
	}
	return errors.Join(errs...)
}

// statementRows are rows that release their statement when they are closed.
type statementRows struct {
	driver.Rows
	of *statement
}

// Close implements [driver.Rows].
func (r *statementRows) Close() error { return errors.Join(r.Rows.Close(), r.of.release()) }
