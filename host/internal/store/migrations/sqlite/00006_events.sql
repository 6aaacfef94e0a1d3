-- +goose Up

-- What has happened, for those who watch; written in the transaction of what it
-- tells of. The latest ones only.
CREATE TABLE events (
    revision   INTEGER NOT NULL PRIMARY KEY, -- from 1, without gaps
    at         INTEGER NOT NULL,             -- UTC in nanoseconds since the Unix epoch
    kind       TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    workspace  TEXT    NOT NULL,
    attributes TEXT    NOT NULL              -- JSON; empty where there are none
);
