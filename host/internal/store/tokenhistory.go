package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sop-host/sop/host/internal/token"
)

// A row of the history of a token is what one group did to it, in order, as one
// value, see form.go: to issue a token is two changes.
//
//	1 byte   1, the version of this form
//	and of each change
//	8 bytes  At, nanoseconds since the Unix epoch
//	text     Action, From, To, By, Why
const historyForm = 1

var putTokenChanges = bulk{"token_history (token_id, changes)", 2, ""}

// flushHistory writes the changes of a group.
func (db *DB) flushHistory(ctx context.Context, tx *sql.Tx, changes []token.Change) error {
	var forms []byte
	err := insert(ctx, db, tx, putTokenChanges, byToken(changes), func(args []any, some []token.Change) []any {
		begin := len(forms)
		forms = appendChanges(forms, some)
		return append(args, some[0].TokenID, forms[begin:len(forms):len(forms)])
	})
	if err != nil {
		return fmt.Errorf("store token history: %w", err)
	}
	return nil
}

// byToken parts changes where the next is of another token.
func byToken(changes []token.Change) (parts [][]token.Change) {
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].TokenID == changes[0].TokenID {
			n++
		}
		parts = append(parts, changes[:n])
		changes = changes[n:]
	}
	return parts
}

func appendChanges(b []byte, changes []token.Change) []byte {
	b = append(b, historyForm)
	for i := range changes {
		c := &changes[i]
		b = binary.BigEndian.AppendUint64(b, uint64(c.At.UnixNano()))
		for _, s := range [...]string{string(c.Action), string(c.From), string(c.To), c.By, c.Why} {
			b = appendText(b, s)
		}
	}
	return b
}

var errHistoryForm = errors.New("the history in the database has no form that is known: it is damaged, or of a newer host")

// readChanges reads what appendChanges has written of t.
func readChanges(t *token.Token, form []byte) (changes []token.Change, err error) {
	if len(form) == 0 || form[0] != historyForm {
		return nil, fmt.Errorf("token %s: %w", t.ID, errHistoryForm)
	}
	for r := (textReader{rest: string(form[1:])}); r.rest != ""; {
		c := token.Change{TokenID: t.ID, Accessor: t.Accessor, At: fromNano(r.nanoseconds())}
		c.Action, c.From, c.To = token.Action(r.text()), token.State(r.text()), token.State(r.text())
		c.By, c.Why = r.text(), r.text()
		if r.short {
			return nil, fmt.Errorf("token %s: %w", t.ID, errHistoryForm)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// history is all that has happened to a token, but its single uses.
func (r tokenReader) history(ctx context.Context, t *token.Token) (all []token.Change, err error) {
	forms, err := collect(ctx, r.q, func(scan func(...any) error) (form []byte, err error) {
		err = scan(&form)
		return form, err
	}, "SELECT changes FROM token_history WHERE token_id = $1 ORDER BY seq", t.ID)
	if err != nil {
		return nil, err
	}
	for _, form := range forms {
		some, err := readChanges(t, form)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// historyFormSchema begins version 17 of the schema.
const historyFormSchema = `
DROP INDEX token_history_by_token;
ALTER TABLE token_history RENAME TO token_history_columns;

CREATE TABLE token_history (
    seq      INTEGER NOT NULL PRIMARY KEY, -- in order of insertion
    token_id TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    changes  BLOB    NOT NULL              -- see tokenhistory.go
);

CREATE INDEX token_history_by_token ON token_history (token_id);
`

// storeHistoryForms takes the histories over.
func storeHistoryForms(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, historyFormSchema); err != nil {
		return err
	}
	db := &DB{dialect: &sqliteDialect}
	type row struct {
		seq    int64
		change token.Change
	}
	for after := int64(-1 << 62); ; {
		page, err := collect(ctx, tx, func(scan func(...any) error) (row, error) {
			var r row
			var at int64
			c := &r.change
			err := scan(&r.seq, &c.TokenID, &c.Action, &at, &c.From, &c.To, &c.By, &c.Why)
			c.At = fromNano(at)
			return r, err
		}, `SELECT seq, token_id, action, at, from_state, to_state, by_whom, why FROM token_history_columns
			WHERE seq > $1 ORDER BY seq LIMIT $2`, after, migrationPage)
		if err != nil {
			return err
		}
		changes := make([]token.Change, len(page))
		for i := range page {
			changes[i] = page[i].change
		}
		if err := db.flushHistory(ctx, tx, changes); err != nil {
			return err
		}
		if len(page) < migrationPage {
			break
		}
		after = page[len(page)-1].seq
	}
	_, err := tx.ExecContext(ctx, "DROP TABLE token_history_columns")
	return err
}
