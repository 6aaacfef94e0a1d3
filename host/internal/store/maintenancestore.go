package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/maintenance"
)

// Maintenance is the [maintenance.Store] in a database.
type Maintenance struct{ db *DB }

var (
	_ maintenance.Store = (*Maintenance)(nil)
	_ maintenance.Tx    = (*maintenanceTx)(nil)
)

// Maintenance returns the store of maintenance requests.
func (db *DB) Maintenance() *Maintenance { return &Maintenance{db} }

const maintenanceColumns = "id, subsystem, workspace, state, severity, description, remedy, filed_by, owner, task, count, first_seen, last_seen, closed_at, closed_by, close_reason"

var (
	putMaintenance = bulk{
		"maintenance_requests (" + maintenanceColumns + ")", strings.Count(maintenanceColumns, ",") + 1,
		" ON CONFLICT (id) DO UPDATE SET " + excluded(maintenanceColumns),
	}
	putMaintenanceChange = bulk{"maintenance_changes (request, at, action, by, why)", 5, ""}

	maintenanceOrder = mustOrder("severity desc, last_seen desc, id", maintenance.ListFields)
)

func maintenanceValues(args []any, r *maintenance.Record) []any {
	return append(args, r.ID, r.Subsystem, r.Workspace, string(r.State), int64(r.Severity), r.Description, r.Remedy, r.FiledBy, r.Owner, r.TaskID,
		int64(r.Count), r.FirstSeen.UnixNano(), r.LastSeen.UnixNano(), nanoOrNull(r.ClosedAt), r.ClosedBy, r.CloseReason)
}

func scanMaintenance(scan func(...any) error) (*maintenance.Record, error) {
	r := new(maintenance.Record)
	var first, last int64
	var closed sql.NullInt64
	err := scan(&r.ID, &r.Subsystem, &r.Workspace, &r.State, &r.Severity, &r.Description, &r.Remedy, &r.FiledBy, &r.Owner, &r.TaskID,
		&r.Count, &first, &last, &closed, &r.ClosedBy, &r.CloseReason)
	r.FirstSeen, r.LastSeen, r.ClosedAt = fromNano(first), fromNano(last), zeroOrNano(closed)
	return r, err
}

func maintenanceChangeValues(args []any, c maintenance.Change) []any {
	return append(args, c.ID, c.At.UnixNano(), string(c.Action), c.By, c.Why)
}

func scanMaintenanceChange(scan func(...any) error) (maintenance.Change, error) {
	var c maintenance.Change
	var at int64
	err := scan(&c.ID, &at, &c.Action, &c.By, &c.Why)
	c.At = fromNano(at)
	return c, err
}

// maintenanceReader reads requests, inside of a transaction or not.
type maintenanceReader struct{ q querier }

func (r maintenanceReader) records(ctx context.Context, rest string, args ...any) ([]*maintenance.Record, error) {
	return collect(ctx, r.q, scanMaintenance, "SELECT "+maintenanceColumns+" FROM maintenance_requests "+rest, args...)
}

// Open implements [maintenance.Tx].
func (r maintenanceReader) Open(ctx context.Context, subsystem, workspace string) (*maintenance.Record, error) {
	found, err := r.records(ctx, "WHERE state = 'open' AND subsystem = $1 AND workspace = $2", subsystem, workspace)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// OpenOf implements [maintenance.Tx].
func (r maintenanceReader) OpenOf(ctx context.Context, subsystem string) ([]*maintenance.Record, error) {
	return r.records(ctx, "WHERE state = 'open' AND subsystem = $1 ORDER BY id", subsystem)
}

// Get implements [maintenance.Tx].
func (r maintenanceReader) Get(ctx context.Context, id string) (*maintenance.Record, error) {
	found, err := r.records(ctx, "WHERE id = $1", id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, maintenance.NotFound(id)
	}
	return found[0], nil
}

// maintenanceTx implements [maintenance.Tx].
type maintenanceTx struct {
	maintenanceReader
	db *DB
	tx *sql.Tx
}

// Update implements [maintenance.Store].
func (s *Maintenance) Update(ctx context.Context, fn func(tx maintenance.Tx) error) error {
	return s.db.update(ctx, func(tx *sql.Tx) error { return fn(&maintenanceTx{maintenanceReader{tx}, s.db, tx}) })
}

// Put implements [maintenance.Tx]. It is the one place where requests are
// written, with their records, which are events as well.
func (t *maintenanceTx) Put(ctx context.Context, r *maintenance.Record, changes ...maintenance.Change) error {
	if err := insert(ctx, t.db, t.tx, putMaintenance, []*maintenance.Record{r}, maintenanceValues); err != nil {
		return fmt.Errorf("store maintenance request: %w", err)
	}
	if err := insert(ctx, t.db, t.tx, putMaintenanceChange, changes, maintenanceChangeValues); err != nil {
		return fmt.Errorf("store change of maintenance request: %w", err)
	}
	records := make([]audit.Record, len(changes))
	for i, c := range changes {
		attributes := map[string]string{"subsystem": c.Subsystem, "severity": c.Severity.String(), "owner": c.Owner}
		if r.Workspace != "" {
			attributes["workspace"] = r.Workspace
		}
		records[i] = audit.Record{
			Time: c.At, Actor: c.By, Action: "maintenance." + string(c.Action), Resource: "maintenance/" + c.ID, Outcome: audit.Success,
			Reason: c.Why, Attributes: attributes,
		}
	}
	if len(records) == 0 {
		return nil
	}
	return t.db.appendAudit(ctx, t.tx, records...) // which tells of them, too
}

// OpenSubsystems implements [maintenance.Store].
func (s *Maintenance) OpenSubsystems(ctx context.Context) ([]string, error) {
	names, err := collect(ctx, s.db.read, func(scan func(...any) error) (name string, err error) {
		err = scan(&name)
		return name, err
	}, "SELECT DISTINCT subsystem FROM maintenance_requests WHERE state = 'open'")
	return names, s.db.translate(err)
}

// Get implements [maintenance.Store].
func (s *Maintenance) Get(ctx context.Context, ref string) (*maintenance.Record, error) {
	if ref == "" || strings.ContainsAny(ref, "%_") {
		return nil, maintenance.NotFound(ref)
	}
	r := maintenanceReader{s.db.read}
	found, err := r.records(ctx, "WHERE id = $1 OR id LIKE $2 ORDER BY id LIMIT 2", ref, ref+"%")
	switch {
	case err != nil:
		return nil, s.db.translate(err)
	case len(found) == 0:
		return nil, maintenance.NotFound(ref)
	case len(found) > 1 && found[0].ID != ref:
		return nil, maintenance.Ambiguous(ref)
	}
	found[0].History, err = collect(ctx, s.db.read, scanMaintenanceChange,
		"SELECT request, at, action, by, why FROM maintenance_changes WHERE request = $1 ORDER BY at, rowid", found[0].ID)
	return found[0], s.db.translate(err)
}

// List implements [maintenance.Store].
func (s *Maintenance) List(ctx context.Context, f maintenance.Filter) (maintenance.Page, error) {
	if f.Limit <= 0 || f.Limit > maintenance.MaxPage {
		f.Limit = maintenance.MaxPage
	}
	fields, keys := plainColumns(maintenance.ListFields, nil), total(f.Order, maintenanceOrder)
	q := &query{dialect: s.db.dialect}
	q.where(f.Where, fields)
	if f.Subsystem != "" {
		q.add(" AND subsystem = ?", f.Subsystem)
	}
	if len(f.States) > 0 {
		q.add(" AND ")
		in(q, "state", f.States)
	}
	count := q.clone()
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return maintenance.Page{}, err
		}
		q.add(" AND ")
		q.after(keys, fields, values)
	}
	q.order(keys, fields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	var page maintenance.Page
	var err error
	if page.Records, err = (maintenanceReader{s.db.read}).records(ctx, "WHERE "+q.text.String(), q.args...); err != nil {
		return page, s.db.translate(err)
	}
	if len(page.Records) > f.Limit {
		page.Records = page.Records[:f.Limit]
		if page.Next, err = nextPage(keys, page.Records[f.Limit-1].Field); err != nil {
			return page, err
		}
	}
	if f.Token == "" {
		page.Total, err = count.total(ctx, s.db.read, "maintenance_requests", len(page.Records), page.Next != "", math.MaxInt64)
	}
	return page, s.db.translate(err)
}
