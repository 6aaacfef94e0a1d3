-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch.

CREATE TABLE tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    accessor   TEXT    NOT NULL UNIQUE,
    hash       BLOB    NOT NULL, -- of the secret, keyed
    type       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    protocol   TEXT    NOT NULL,
    operations TEXT    NOT NULL, -- JSON
    requester  TEXT    NOT NULL,
    task       TEXT    NOT NULL,
    paths      TEXT    NOT NULL, -- JSON
    workspace  TEXT    NOT NULL,
    issued_by  TEXT    NOT NULL,
    parent     TEXT    NOT NULL, -- id, or empty
    depth      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    max_life   INTEGER NOT NULL, -- nanoseconds
    changed_at INTEGER NOT NULL,
    last_use   INTEGER,
    max_uses   INTEGER NOT NULL,
    uses       INTEGER NOT NULL,
    reserved   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    CHECK (uses >= 0 AND reserved >= 0 AND uses + reserved <= max_uses)
);

CREATE INDEX tokens_by_expiry ON tokens (expires_at) WHERE state IN ('pending', 'active');
CREATE INDEX tokens_by_start ON tokens (not_before) WHERE state = 'pending';
CREATE INDEX tokens_by_parent ON tokens (parent) WHERE parent <> '';
CREATE INDEX tokens_by_requester ON tokens (requester, id);
CREATE INDEX tokens_by_task ON tokens (task, id) WHERE task <> '';

CREATE TABLE token_history (
    seq        INTEGER NOT NULL PRIMARY KEY, -- in order of insertion
    token_id   TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    action     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    by_whom    TEXT    NOT NULL,
    why        TEXT    NOT NULL
);

CREATE INDEX token_history_by_token ON token_history (token_id);

-- What uses with an idempotency key were answered.
CREATE TABLE token_answers (
    token_id TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    key      TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    request  BLOB    NOT NULL,
    answer   TEXT    NOT NULL, -- JSON
    PRIMARY KEY (token_id, key)
);

CREATE INDEX token_answers_by_time ON token_answers (at);

-- The highest time that was seen; one row.
CREATE TABLE token_clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
);
