package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strings"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
)

// keptEvents is how many events are kept at least; those before them are
// deleted some time later.
const (
	keptEvents   = 200_000
	compactEvery = 1000 // revisions
)

// Events are the latest events, in a database.
type Events struct{ db *DB }

// Events returns the journal of events.
func (db *DB) Events() *Events { return &Events{db} }

// Bounds returns the revisions of the earliest and the latest event that are
// kept; 1 and 0 when there never was one.
func (s *Events) Bounds(ctx context.Context) (first, last int64, err error) {
	if first, err = number(ctx, s.db.read, "SELECT coalesce(min(revision), 1) FROM events"); err == nil {
		last, err = number(ctx, s.db.read, "SELECT coalesce(max(revision), 0) FROM events")
	}
	return first, last, s.db.translate(err)
}

// After returns at most limit events after a revision, in order. Where the first
// of them does not follow the revision, those between are not kept any more.
func (s *Events) After(ctx context.Context, revision int64, limit int) ([]*event.Record, error) {
	all, err := collect(ctx, s.db.read, scanEvent, "SELECT revision, record FROM events WHERE revision > $1 ORDER BY revision LIMIT $2", revision, limit)
	return all, s.db.translate(err)
}

// Changed returns a channel that is closed when there are more.
func (s *Events) Changed() <-chan struct{} { return s.db.happened.Wait() }

// pendingEvents is what a group has to tell and has not yet written.
type pendingEvents struct {
	loaded bool
	last   int64 // revision
	events []event.Record
}

// appendEvents tells of what an update does, in its transaction. Call it from
// within update only.
func (db *DB) appendEvents(ctx context.Context, tx *sql.Tx, events ...event.Record) error {
	if len(events) == 0 {
		return nil
	}
	pending := &db.writer.group.events
	if !pending.loaded {
		last, err := db.writer.lastRevision(ctx, tx)
		if err != nil {
			return err
		}
		pending.loaded, pending.last = true, last
	}
	for _, e := range events {
		pending.last++
		e.Revision = pending.last
		pending.events = append(pending.events, e)
	}
	return nil
}

// lastRevision is that of the last group, or what the database says.
func (w *writer) lastRevision(ctx context.Context, tx *sql.Tx) (int64, error) {
	if w.revision >= 0 {
		return w.revision, nil
	}
	return number(ctx, tx, "SELECT coalesce(max(revision), 0) FROM events")
}

var putEvent = bulk{"events (revision, record)", 2, ""}

// flushEvents writes what the group has to tell.
func (db *DB) flushEvents(ctx context.Context, tx *sql.Tx, pending *pendingEvents) error {
	if len(pending.events) == 0 {
		return nil
	}
	var forms []byte
	err := insert(ctx, db, tx, putEvent, pending.events, func(args []any, e event.Record) []any {
		begin := len(forms)
		forms = appendEvent(forms, &e)
		return append(args, e.Revision, forms[begin:len(forms):len(forms)])
	})
	if err != nil {
		return fmt.Errorf("store events: %w", err)
	}
	if before := pending.last - int64(len(pending.events)); before/compactEvery == pending.last/compactEvery {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM events WHERE revision <= $1", pending.last-keptEvents); err != nil {
		return fmt.Errorf("forget events: %w", err)
	}
	return nil
}

func scanEvent(scan func(...any) error) (*event.Record, error) {
	var revision int64
	var form []byte
	if err := scan(&revision, &form); err != nil {
		return nil, err
	}
	return readEvent(revision, form)
}

// recordEvent is the event that an audit record tells of, and false for those
// that are none: decisions and single uses of tokens are asked for in the log,
// and gaps tell of themselves.
func recordEvent(r *audit.Record) (event.Record, bool) {
	noun, _, _ := strings.Cut(r.Action, ".")
	if noun == "access" || noun == "gap" || r.Action == usedAction || r.Action == "protocol.call" && r.Outcome == audit.Success {
		return event.Record{}, false
	}
	return event.Record{
		At: r.Time, Kind: r.Action, Subject: r.Resource, Actor: r.Actor, Outcome: string(r.Outcome), Reason: r.Reason,
		Workspace: r.Attributes["workspace"], Attributes: maps.Clone(r.Attributes), // who wrote the record may hold them
	}, true
}

// gapEvents tell of every change of a gap.
func gapEvents(gaps []*gap.Gap, changes []gap.Change) []event.Record {
	byID := make(map[string]*gap.Gap, len(gaps))
	for _, g := range gaps {
		byID[g.ID] = g
	}
	out := make([]event.Record, 0, len(changes))
	for _, c := range changes {
		e := event.Record{
			At: c.At, Kind: "gap." + gapVerb(c), Subject: "gap/" + c.GapID, Actor: c.By, Outcome: string(audit.Success), Reason: c.Why,
			Attributes: map[string]string{"from": string(c.From), "to": string(c.To)},
		}
		if g := byID[c.GapID]; g != nil {
			e.Workspace = g.Workspace
			e.Attributes["rule"], e.Attributes["severity"], e.Attributes["path"] = g.Rule, g.Severity.String(), g.Path
		}
		out = append(out, e)
	}
	return out
}

// scanEnded tells of a scan.
func scanEnded(r *gap.ScanResult) event.Record {
	outcome := audit.Success
	if !r.Complete {
		outcome = audit.Failure
	}
	return event.Record{
		At: r.StartedAt.Add(r.Duration), Kind: "workspace.scan", Subject: "workspace/" + r.Workspace, Actor: r.By(), Outcome: string(outcome),
		Workspace: r.Workspace, Attributes: map[string]string{
			"opened": fmt.Sprint(r.New), "reopened": fmt.Sprint(r.Reopened), "resolved": fmt.Sprint(r.Resolved), "files": fmt.Sprint(r.Files),
		},
	}
}
