package store

import (
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
)

// dialect is what differs between database engines.
type dialect struct {
	goose      goose.Dialect
	migrations string // directory in the embedded file system
	schema     string // that they make
	things     string // a query for how many tables and the like there are
	// numbered says that placeholders of generated lists are $1, $2 …;
	// otherwise they are bare question marks. SQLite knows both, but looks for
	// numbered ones from the first, each time: quadratic in long lists.
	numbered bool
	// hinted says that a table can be read by an index that is named: without
	// statistics SQLite sorts all that waits rather than read it in order.
	hinted bool
	// version is a query for a number that is another once another connection
	// has written.
	version string
}

// by names the index that a table is to be read by.
func (d *dialect) by(index string) string {
	if d.hinted {
		return " INDEXED BY " + index
	}
	return ""
}

var sqliteDialect = dialect{
	goose: goose.DialectSQLite3, migrations: "migrations/sqlite", schema: sqliteSchema, things: "SELECT count(*) FROM sqlite_master",
	hinted: true, version: "PRAGMA data_version",
}

// tuples returns rows × columns placeholders: "(?,?),(?,?)".
func (d *dialect) tuples(rows, columns int) string {
	var b strings.Builder
	b.Grow(rows * columns * 3)
	n := 0
	for r := range rows {
		if r > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for c := range columns {
			if c > 0 {
				b.WriteByte(',')
			}
			n++
			b.WriteString(d.placeholder(n))
		}
		b.WriteByte(')')
	}
	return b.String()
}

func (d *dialect) placeholder(n int) string {
	if d.numbered {
		return "$" + strconv.Itoa(n)
	}
	return "?"
}

// query builds a statement with its arguments.
type query struct {
	dialect *dialect
	text    strings.Builder
	args    []any
}

// add appends text, in which each ? stands for the next of args.
func (q *query) add(text string, args ...any) {
	for part := range strings.SplitAfterSeq(text, "?") {
		if !strings.HasSuffix(part, "?") {
			q.text.WriteString(part)
			continue
		}
		q.args, args = append(q.args, args[0]), args[1:]
		q.text.WriteString(part[:len(part)-1])
		q.text.WriteString(q.dialect.placeholder(len(q.args)))
	}
}

// clone returns a query that goes on by itself.
func (q *query) clone() *query {
	c := &query{dialect: q.dialect, args: append([]any{}, q.args...)}
	c.text.WriteString(q.text.String())
	return c
}

// in appends "column IN (…)".
func in[T any](q *query, column string, values []T) {
	q.text.WriteString(column + " IN (")
	for i, v := range values {
		if i > 0 {
			q.text.WriteByte(',')
		}
		q.args = append(q.args, v)
		q.text.WriteString(q.dialect.placeholder(len(q.args)))
	}
	q.text.WriteByte(')')
}
