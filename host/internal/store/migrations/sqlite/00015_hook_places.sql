-- +goose Up

-- How far hooks have come in the log of events.
CREATE TABLE hook_places (
    hook     TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL
);
