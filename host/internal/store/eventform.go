package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sop-host/sop/host/internal/event"
)

// An event is kept as one value, see form.go.
//
//	1 byte   1, the version of this form
//	8 bytes  At, nanoseconds since the Unix epoch
//	text     Kind, Subject, Actor, Outcome, Reason, Workspace
//	4 bytes  how many attributes
//	text     key and value of each
const eventForm = 1

// appendEvent appends the form of an event, without its revision.
func appendEvent(b []byte, e *event.Record) []byte {
	b = binary.BigEndian.AppendUint64(append(b, eventForm), uint64(e.At.UnixNano()))
	for _, s := range [...]string{e.Kind, e.Subject, e.Actor, e.Outcome, e.Reason, e.Workspace} {
		b = appendText(b, s)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Attributes)))
	for key, value := range e.Attributes {
		b = appendText(appendText(b, key), value)
	}
	return b
}

var errEventForm = errors.New("an event in the database has no form that is known: it is damaged, or of a newer host")

// readEvent reads what appendEvent has written.
func readEvent(revision int64, form []byte) (*event.Record, error) {
	if len(form) == 0 || form[0] != eventForm {
		return nil, fmt.Errorf("event %d: %w", revision, errEventForm)
	}
	r := textReader{rest: string(form[1:])} // one copy, of which all texts are parts
	e := &event.Record{Revision: revision, At: fromNano(r.nanoseconds())}
	for _, to := range [...]*string{&e.Kind, &e.Subject, &e.Actor, &e.Outcome, &e.Reason, &e.Workspace} {
		*to = r.text()
	}
	n := r.number()
	if n > 0 && !r.short {
		e.Attributes = make(map[string]string, min(n, 64))
	}
	for ; n > 0 && !r.short; n-- {
		key := r.text()
		e.Attributes[key] = r.text()
	}
	if r.short || r.rest != "" {
		return nil, fmt.Errorf("event %d: %w", revision, errEventForm)
	}
	return e, nil
}

// eventFormSchema begins version 16 of the schema.
const eventFormSchema = `
ALTER TABLE events RENAME TO event_columns;

-- What has happened, for those who watch; written in the transaction of what it
-- tells of. The latest ones only.
CREATE TABLE events (
    revision INTEGER NOT NULL PRIMARY KEY, -- from 1, without gaps
    record   BLOB    NOT NULL              -- see eventform.go
);
`

// storeEventForms takes the events over, under their revisions: who watches goes
// on where it was.
func storeEventForms(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, eventFormSchema); err != nil {
		return err
	}
	db := &DB{dialect: &sqliteDialect}
	for after := int64(0); ; {
		page, err := collect(ctx, tx, scanEventColumns,
			"SELECT revision, at, kind, subject, actor, outcome, reason, workspace, attributes FROM event_columns WHERE revision > $1 ORDER BY revision LIMIT $2", after, migrationPage)
		if err != nil {
			return err
		}
		if err := insert(ctx, db, tx, putEvent, page, func(args []any, e *event.Record) []any { return append(args, e.Revision, appendEvent(nil, e)) }); err != nil {
			return err
		}
		if len(page) < migrationPage {
			break
		}
		after = page[len(page)-1].Revision
	}
	_, err := tx.ExecContext(ctx, "DROP TABLE event_columns")
	return err
}

func scanEventColumns(scan func(...any) error) (*event.Record, error) {
	e := new(event.Record)
	var at int64
	var attributes string
	if err := scan(&e.Revision, &at, &e.Kind, &e.Subject, &e.Actor, &e.Outcome, &e.Reason, &e.Workspace, &attributes); err != nil {
		return nil, err
	}
	e.At = fromNano(at)
	if attributes != "" {
		if err := json.Unmarshal([]byte(attributes), &e.Attributes); err != nil {
			return nil, fmt.Errorf("event %d in the database: %w", e.Revision, err)
		}
	}
	return e, nil
}
