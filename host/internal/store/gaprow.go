package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/gap"
)

// gapColumns are the columns of gaps in the order of gapValues and scanGap.
const gapColumns = `id, fingerprint, workspace, detector, detector_version, rule, rule_version, type, severity, confidence,
	path, line, end_line, col, symbol, message, remedy, evidence, state, first_seen, last_seen, resolved_at, resolution,
	suppressed_reason, suppressed_until, suppressed_by, suppressed_content,
	key_snippet, key_context, key_before, key_after, key_message`

// bulk is an INSERT of many rows.
type bulk struct {
	into    string // table and columns
	columns int
	suffix  string
}

var (
	putGap    = bulk{"gaps (" + gapColumns + ")", strings.Count(gapColumns, ",") + 1, " ON CONFLICT (id) DO UPDATE SET " + excluded(gapColumns)}
	putChange = bulk{"gap_history (gap_id, at, from_state, to_state, by_whom, why)", 6, ""}
)

// excluded returns "a = excluded.a, …" for all columns but the first.
func excluded(columns string) string {
	names := strings.Split(columns, ",")[1:]
	for i, n := range names {
		n = strings.TrimSpace(n)
		names[i] = n + " = excluded." + n
	}
	return strings.Join(names, ", ")
}

// rowsAtATime is how many rows one statement inserts at most, a power of two.
const rowsAtATime = 64

// insert inserts rows, many with one statement. The numbers of rows are powers
// of two, so that there are few texts and each is prepared once.
func insert[T any](ctx context.Context, db *DB, tx *sql.Tx, b bulk, rows []T, values func([]any, T) []any) error {
	return inParts(rows, b.columns, values, func(n int, args []any) error {
		_, err := tx.ExecContext(ctx, b.text(db.dialect, n), args...)
		return err
	})
}

// inParts calls exec with the values of rows, of as many at a time as insert says.
func inParts[T any](rows []T, columns int, values func([]any, T) []any, exec func(n int, args []any) error) error {
	args := make([]any, 0, min(len(rows), rowsAtATime)*columns)
	for n := rowsAtATime; len(rows) > 0; {
		for n > len(rows) {
			n /= 2
		}
		args = args[:0]
		for _, row := range rows[:n] {
			args = values(args, row)
		}
		if err := exec(n, args); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// text is the statement that inserts n rows.
func (b *bulk) text(d *dialect, n int) string {
	return "INSERT INTO " + b.into + " VALUES " + d.tuples(n, b.columns) + b.suffix
}

func gapValues(args []any, g *gap.Gap) []any {
	var reason, until, by, content any
	if s := g.Suppression; s != nil {
		reason, until, by, content = s.Reason, toNano(s.Until), s.By, s.ContentHash
	}
	return append(
		args, g.ID, g.Fingerprint, g.Workspace, g.Detector, g.DetectorVersion, g.Rule, g.RuleVersion,
		string(g.Type), int64(g.Severity), int64(g.Confidence),
		g.Path, int64(g.Line), int64(g.EndLine), int64(g.Column), g.Symbol, g.Message, g.Remedy, g.Evidence,
		string(g.State), g.FirstSeen.UnixNano(), g.LastSeen.UnixNano(), toNano(g.ResolvedAt), string(g.Resolution),
		reason, until, by, content,
		int64(g.Keys.Snippet), int64(g.Keys.Context), int64(g.Keys.Before), int64(g.Keys.After), int64(g.Keys.Message),
	)
}

func scanGap(scan func(...any) error) (*gap.Gap, error) {
	g := new(gap.Gap)
	var first, last int64
	var resolved, until sql.NullInt64
	var reason, by, content sql.NullString
	var keys [5]int64
	err := scan(
		&g.ID, &g.Fingerprint, &g.Workspace, &g.Detector, &g.DetectorVersion, &g.Rule, &g.RuleVersion,
		&g.Type, &g.Severity, &g.Confidence,
		&g.Path, &g.Line, &g.EndLine, &g.Column, &g.Symbol, &g.Message, &g.Remedy, &g.Evidence,
		&g.State, &first, &last, &resolved, &g.Resolution,
		&reason, &until, &by, &content,
		&keys[0], &keys[1], &keys[2], &keys[3], &keys[4],
	)
	if err != nil {
		return nil, err
	}
	g.FirstSeen, g.LastSeen, g.ResolvedAt = fromNano(first), fromNano(last), maybeNano(resolved)
	if reason.Valid {
		g.Suppression = &gap.Suppression{Reason: reason.String, Until: maybeNano(until), By: by.String, ContentHash: content.String}
	}
	g.Keys = gap.Keys{
		Snippet: uint64(keys[0]), Context: uint64(keys[1]), Before: uint64(keys[2]), After: uint64(keys[3]), Message: uint64(keys[4]),
	}
	return g, nil
}

func toNano(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixNano()
}

func fromNano(n int64) time.Time { return time.Unix(0, n).UTC() }

func maybeNano(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := fromNano(n.Int64)
	return &t
}
