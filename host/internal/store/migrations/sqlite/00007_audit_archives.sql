-- +goose Up

-- Segments of the audit log that were moved to files; package audit says what
-- they are. Their records are gone from audit_records.
CREATE TABLE audit_archives (
    first_seq  INTEGER NOT NULL PRIMARY KEY,
    last_seq   INTEGER NOT NULL UNIQUE,
    file       TEXT    NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     BLOB    NOT NULL, -- of the file
    last       BLOB    NOT NULL, -- hash of the last record
    edge       BLOB    NOT NULL, -- right edge of the tree after it
    note       TEXT    NOT NULL, -- the checkpoint after it
    from_time  INTEGER NOT NULL,
    until_time INTEGER NOT NULL,
    at         INTEGER NOT NULL
);

-- How far a mirror or a sink of checkpoints has come.
CREATE TABLE audit_cursors (
    name TEXT    NOT NULL PRIMARY KEY,
    seq  INTEGER NOT NULL
);

-- What stands in an archive may go, and nothing else.
DROP TRIGGER audit_records_last;
-- +goose StatementBegin
CREATE TRIGGER audit_records_last BEFORE DELETE ON audit_records
WHEN OLD.seq > (SELECT coalesce(max(last_seq), 0) FROM audit_archives)
BEGIN
    SELECT RAISE(ABORT, 'audit records are not deleted');
END;
-- +goose StatementEnd
