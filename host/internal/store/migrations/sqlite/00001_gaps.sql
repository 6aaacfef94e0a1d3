-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch.

CREATE TABLE gaps (
    id                 TEXT    NOT NULL PRIMARY KEY,
    fingerprint        TEXT    NOT NULL,
    workspace          TEXT    NOT NULL,
    detector           TEXT    NOT NULL,
    detector_version   TEXT    NOT NULL,
    rule               TEXT    NOT NULL,
    rule_version       TEXT    NOT NULL,
    type               TEXT    NOT NULL,
    severity           INTEGER NOT NULL,
    confidence         INTEGER NOT NULL,
    path               TEXT    NOT NULL,
    line               INTEGER NOT NULL,
    end_line           INTEGER NOT NULL,
    col                INTEGER NOT NULL,
    symbol             TEXT    NOT NULL,
    message            TEXT    NOT NULL,
    remedy             TEXT    NOT NULL,
    evidence           TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    first_seen         INTEGER NOT NULL,
    last_seen          INTEGER NOT NULL,
    resolved_at        INTEGER,
    resolution         TEXT    NOT NULL,
    suppressed_reason  TEXT,
    suppressed_until   INTEGER,
    suppressed_by      TEXT,
    suppressed_content TEXT,
    key_snippet        INTEGER NOT NULL,
    key_context        INTEGER NOT NULL,
    key_before         INTEGER NOT NULL,
    key_after          INTEGER NOT NULL,
    key_message        INTEGER NOT NULL
);

CREATE INDEX gaps_by_place ON gaps (workspace, detector, path);
CREATE INDEX gaps_by_count ON gaps (workspace, severity, state);
CREATE INDEX gaps_by_fingerprint ON gaps (fingerprint);
CREATE INDEX gaps_by_lapse ON gaps (workspace, suppressed_until) WHERE suppressed_until IS NOT NULL;

CREATE TABLE gap_history (
    seq        INTEGER NOT NULL PRIMARY KEY, -- in order of insertion
    gap_id     TEXT    NOT NULL REFERENCES gaps (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    by_whom    TEXT    NOT NULL,
    why        TEXT    NOT NULL
);

CREATE INDEX gap_history_by_gap ON gap_history (gap_id);

CREATE TABLE scans (
    id         TEXT    NOT NULL PRIMARY KEY,
    workspace  TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    complete   BOOLEAN NOT NULL,
    result     TEXT    NOT NULL -- JSON
);

CREATE INDEX scans_by_time ON scans (workspace, started_at);
