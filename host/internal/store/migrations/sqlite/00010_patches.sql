-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch.

CREATE TABLE patches (
    id            TEXT    NOT NULL PRIMARY KEY,
    task          TEXT    NOT NULL,
    workspace     TEXT    NOT NULL,
    title         TEXT    NOT NULL,
    proposer      TEXT    NOT NULL,
    hash          TEXT    NOT NULL,
    base          TEXT    NOT NULL,
    changes       TEXT    NOT NULL, -- JSON
    files         INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    evidence      TEXT    NOT NULL, -- JSON, or empty
    approval      TEXT    NOT NULL, -- the rule
    supersedes    TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    proposal_key  TEXT    NOT NULL, -- that it was proposed with, or empty
    risks         TEXT    NOT NULL, -- JSON, or empty
    verdict       TEXT    NOT NULL, -- JSON, or empty
    passed        BOOLEAN NOT NULL,
    approvals     TEXT    NOT NULL, -- JSON, or empty
    state         TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    superseded_by TEXT    NOT NULL,
    token         TEXT    NOT NULL,
    backup        TEXT    NOT NULL,
    done          TEXT    NOT NULL, -- JSON
    changed_at    INTEGER NOT NULL,
    integrated_at INTEGER,
    dropped       BOOLEAN NOT NULL,
    version       INTEGER NOT NULL
);

CREATE UNIQUE INDEX patches_by_key ON patches (proposal_key) WHERE proposal_key <> '';
CREATE INDEX patches_by_task ON patches (task, id);
CREATE INDEX patches_by_state ON patches (state, changed_at);

CREATE TABLE patch_history (
    seq        INTEGER NOT NULL PRIMARY KEY, -- in order of insertion
    patch_id   TEXT    NOT NULL REFERENCES patches (id) ON DELETE CASCADE,
    action     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    by_whom    TEXT    NOT NULL,
    why        TEXT    NOT NULL,
    token      TEXT    NOT NULL
);

CREATE INDEX patch_history_by_patch ON patch_history (patch_id);

-- What is kept on disk for which patch.
CREATE TABLE patch_contents (
    patch_id TEXT    NOT NULL REFERENCES patches (id) ON DELETE CASCADE,
    hash     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    PRIMARY KEY (patch_id, hash)
);
