-- +goose Up

-- What each column means stands in package audit, and so does what is hashed.
CREATE TABLE audit_records (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    resource   TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    trace_id   TEXT    NOT NULL,
    token      TEXT    NOT NULL,
    attributes TEXT    NOT NULL, -- JSON; empty where there are none
    prev_hash  BLOB    NOT NULL,
    hash       BLOB    NOT NULL
);

-- Both grow at their right edge or nearly so: an append costs the same however
-- long the log is.
CREATE INDEX audit_records_by_time ON audit_records (at);
CREATE INDEX audit_records_by_resource ON audit_records (resource, seq);

-- Against mistakes of ours; against others there are the hashes.
-- +goose StatementBegin
CREATE TRIGGER audit_records_stay BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit records are not changed');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_records_last BEFORE DELETE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit records are not deleted');
END;
-- +goose StatementEnd

CREATE TABLE audit_head (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    last BLOB    NOT NULL,
    edge BLOB    NOT NULL -- right edge of the tree
);

CREATE TABLE audit_checkpoints (
    size INTEGER NOT NULL PRIMARY KEY,
    note TEXT    NOT NULL
);
