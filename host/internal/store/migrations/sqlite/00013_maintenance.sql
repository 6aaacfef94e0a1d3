-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch.

CREATE TABLE maintenance_requests (
    id           TEXT    NOT NULL PRIMARY KEY,
    subsystem    TEXT    NOT NULL,
    workspace    TEXT    NOT NULL, -- may be empty
    state        TEXT    NOT NULL,
    severity     INTEGER NOT NULL,
    description  TEXT    NOT NULL,
    remedy       TEXT    NOT NULL,
    filed_by     TEXT    NOT NULL,
    owner        TEXT    NOT NULL,
    task         TEXT    NOT NULL, -- may be empty
    count        INTEGER NOT NULL,
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER NOT NULL,
    closed_at    INTEGER, -- NULL: open
    closed_by    TEXT    NOT NULL,
    close_reason TEXT    NOT NULL
);

-- A subsystem has one open request.
CREATE UNIQUE INDEX maintenance_open ON maintenance_requests (subsystem, workspace) WHERE state = 'open';
CREATE INDEX maintenance_by_severity ON maintenance_requests (state, severity DESC, last_seen DESC);

CREATE TABLE maintenance_changes (
    request TEXT    NOT NULL REFERENCES maintenance_requests (id) ON DELETE CASCADE,
    at      INTEGER NOT NULL,
    action  TEXT    NOT NULL,
    by      TEXT    NOT NULL,
    why     TEXT    NOT NULL
);

CREATE INDEX maintenance_changes_by_request ON maintenance_changes (request, at);
