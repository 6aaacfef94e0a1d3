-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch.

CREATE TABLE agents (
    name       TEXT    NOT NULL PRIMARY KEY,
    trust      TEXT    NOT NULL,
    groups     TEXT    NOT NULL, -- JSON
    state      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    expires_at INTEGER, -- NULL: never
    last_used  INTEGER,
    version    INTEGER NOT NULL
);

CREATE INDEX agents_revoked ON agents (name) WHERE state = 'revoked';

CREATE TABLE agent_keys (
    accessor   TEXT    NOT NULL PRIMARY KEY,
    agent      TEXT    NOT NULL REFERENCES agents (name) ON DELETE CASCADE,
    hash       BLOB    NOT NULL, -- of the key, keyed
    created_at INTEGER NOT NULL,
    ends_at    INTEGER
);

CREATE INDEX agent_keys_by_agent ON agent_keys (agent, created_at);
