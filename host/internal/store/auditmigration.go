package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"

	"github.com/sop-host/sop/host/internal/audit"
)

// auditFormsSchema begins version 8: a record of the audit log is kept as the
// bytes that are hashed, and then its hash; see DESIGN.md.
const auditFormsSchema = `
ALTER TABLE audit_records RENAME TO audit_columns;
DROP TRIGGER audit_records_stay;
DROP TRIGGER audit_records_last;
DROP INDEX audit_records_by_time;
DROP INDEX audit_records_by_resource;

-- Package audit says what the bytes are.
CREATE TABLE audit_records (
    seq    INTEGER NOT NULL PRIMARY KEY,
    record BLOB    NOT NULL
);

-- What searches look at first: what the records of a span may be about.
CREATE TABLE audit_spans (
    last_seq  INTEGER NOT NULL PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    from_at   INTEGER NOT NULL, -- UTC in nanoseconds since the Unix epoch
    until_at  INTEGER NOT NULL, -- likewise, the latest
    resources BLOB    NOT NULL  -- CRC-32 of each, big-endian
);

-- Against mistakes of ours; against others there are the hashes.
CREATE TRIGGER audit_records_stay BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit records are not changed');
END;

-- What stands in an archive may go, and nothing else.
CREATE TRIGGER audit_records_last BEFORE DELETE ON audit_records
WHEN OLD.seq > (SELECT coalesce(max(last_seq), 0) FROM audit_archives)
BEGIN
    SELECT RAISE(ABORT, 'audit records are not deleted');
END;
`

// migrationPage is how many rows a migration reads at a time.
const migrationPage = 2000

// storeAuditForms takes the records over as they stand, whether or not they
// verify.
func storeAuditForms(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, auditFormsSchema); err != nil {
		return err
	}
	db := &DB{dialect: &sqliteDialect}
	for next := int64(math.MinInt64); ; {
		page, err := collect(ctx, tx, scanAuditColumns, `SELECT seq, at, actor, action, resource, outcome, reason, request_id, trace_id, token, attributes, prev_hash, hash
			FROM audit_columns WHERE seq >= $1 ORDER BY seq LIMIT $2`, next, migrationPage)
		if err != nil {
			return err
		}
		err = insert(ctx, db, tx, putAudit, page, func(args []any, r *audit.Record) []any { return append(args, int64(r.Seq), r.AppendStored(nil)) })
		if err != nil {
			return err
		}
		if len(page) < migrationPage {
			break
		}
		next = int64(page[len(page)-1].Seq) + 1
	}
	if _, err := loadSpan(ctx, tx, math.MaxInt64); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DROP TABLE audit_columns")
	return err
}

func scanAuditColumns(scan func(...any) error) (*audit.Record, error) {
	r := new(audit.Record)
	var seq, at int64
	var attributes string
	var prev, hash []byte
	err := scan(&seq, &at, &r.Actor, &r.Action, &r.Resource, &r.Outcome, &r.Reason,
		&r.RequestID, &r.TraceID, &r.Token, &attributes, &prev, &hash)
	if err != nil {
		return nil, err
	}
	r.Seq, r.Time = uint64(seq), fromNano(at)
	copy(r.PrevHash[:], prev)
	copy(r.Hash[:], hash)
	if len(prev) != len(r.PrevHash) || len(hash) != len(r.Hash) {
		r.Hash = audit.Hash{} // does not verify
	}
	if attributes != "" {
		if err := json.Unmarshal([]byte(attributes), &r.Attributes); err != nil {
			r.Attributes = map[string]string{"damaged": attributes} // does not verify
		}
	}
	return r, nil
}
