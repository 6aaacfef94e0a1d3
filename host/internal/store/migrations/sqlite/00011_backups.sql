-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch. Paths are bytes: lists of
-- them are JSON of base64.

CREATE TABLE backups (
    id           TEXT    NOT NULL PRIMARY KEY,
    plugin       TEXT    NOT NULL,
    ref          TEXT    NOT NULL, -- the plugin's id
    workspace    TEXT    NOT NULL, -- empty: the host's own state
    root         BLOB    NOT NULL,
    paths        TEXT    NOT NULL,
    excluded     TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    task         TEXT    NOT NULL,
    patch        TEXT    NOT NULL,
    schedule     TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    files        INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    stored       INTEGER NOT NULL,
    failures     TEXT    NOT NULL, -- JSON, the first of failed
    failed       INTEGER NOT NULL,
    manifest     BLOB    NOT NULL, -- SHA-256, or empty
    pinned       INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    why          TEXT    NOT NULL,
    changed_at   INTEGER NOT NULL,
    structure_at INTEGER, -- NULL: never
    data_at      INTEGER
);

CREATE INDEX backups_by_plugin ON backups (plugin, state);
CREATE INDEX backups_by_patch ON backups (patch) WHERE patch <> '';

CREATE TABLE backup_runs (
    id         TEXT    NOT NULL PRIMARY KEY,
    schedule   TEXT    NOT NULL,
    work       TEXT    NOT NULL,
    plugin     TEXT    NOT NULL,
    snapshot   TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER, -- NULL: under way, or killed
    reason     TEXT    NOT NULL,
    message    TEXT    NOT NULL
);

CREATE INDEX backup_runs_latest ON backup_runs (schedule, work, started_at);
