package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"modernc.org/sqlite"
)

// openPatient opens a database whose statements, once they run, run to their
// end. SQLite undoes the whole transaction when a statement that writes is
// interrupted, and a transaction here is the work of several callers: one that
// gives up must not undo what the others did. database/sql still looks at the
// context before each statement.
func openPatient(dsn string) (*sql.DB, error) {
	base, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(patientConnector{base}), nil
}

type patientConnector struct{ driver.Connector }

// Connect implements [driver.Connector].
func (p patientConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := conn.(fullConn)
	if !ok {
		return nil, errors.Join(errDriver, conn.Close())
	}
	return patientConn{full, &statements{conn: full, kept: make(map[string]*statement)}}, nil
}

// fullConn is what the driver's connections are.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// patientConn also keeps the statements that it runs, prepared.
type patientConn struct {
	fullConn
	statements *statements
}

// Close implements [driver.Conn].
func (c patientConn) Close() error { return errors.Join(c.statements.close(), c.fullConn.Close()) }

// ExecContext implements [driver.ExecerContext].
func (c patientConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	ctx = context.WithoutCancel(ctx)
	stmt, err := c.statements.get(ctx, query)
	if err != nil {
		return nil, err
	}
	result, err = stmt.ExecContext(ctx, args)
	return result, errors.Join(err, stmt.release())
}

// QueryContext implements [driver.QueryerContext].
func (c patientConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	ctx = context.WithoutCancel(ctx)
	stmt, err := c.statements.get(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, stmt.release())
	}
	return &statementRows{rows, stmt}, nil
}

// PrepareContext implements [driver.ConnPrepareContext].
func (c patientConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.fullConn.PrepareContext(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, err
	}
	full, ok := stmt.(fullStmt)
	if !ok {
		return nil, errors.Join(errDriver, stmt.Close())
	}
	return patientStmt{full}, nil
}

type patientStmt struct{ fullStmt }

// ExecContext implements [driver.StmtExecContext].
func (s patientStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.fullStmt.ExecContext(context.WithoutCancel(ctx), args)
}

// QueryContext implements [driver.StmtQueryContext].
func (s patientStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.fullStmt.QueryContext(context.WithoutCancel(ctx), args)
}
