-- +goose Up

-- What calls with an idempotency key were answered; package answer says how.
CREATE TABLE api_answers (
    id      BLOB    NOT NULL PRIMARY KEY,
    request BLOB    NOT NULL,
    at      INTEGER NOT NULL, -- UTC in nanoseconds since the Unix epoch
    sealed  BLOB              -- encrypted; NULL while there is no answer
);

CREATE INDEX api_answers_by_time ON api_answers (at);
