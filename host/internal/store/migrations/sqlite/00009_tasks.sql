-- +goose Up

-- Times are UTC in nanoseconds since the Unix epoch. The row of a task is the
-- queue: who may work on it next stands in its state, due_at, lease_until and
-- fence.
CREATE TABLE tasks (
    id           TEXT    NOT NULL PRIMARY KEY,
    kind         TEXT    NOT NULL,
    title        TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    severity     TEXT    NOT NULL,
    workspace    TEXT    NOT NULL,
    target       TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    gaps         TEXT    NOT NULL, -- JSON
    key          TEXT    NOT NULL, -- or empty
    route        TEXT    NOT NULL,
    sandbox      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    before       TEXT    NOT NULL, -- state
    reason       TEXT    NOT NULL,
    base         INTEGER NOT NULL,
    since        INTEGER NOT NULL,
    pinned       INTEGER NOT NULL,
    rank         INTEGER NOT NULL, -- of base and since
    depends_on   TEXT    NOT NULL, -- JSON
    needs        TEXT    NOT NULL, -- JSON
    attempts     INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    holder       TEXT    NOT NULL,
    fence        INTEGER NOT NULL,
    lease        INTEGER NOT NULL, -- nanoseconds
    lease_until  INTEGER,          -- NULL: nobody holds it
    patch        TEXT    NOT NULL,
    feedback     TEXT    NOT NULL,
    spec         TEXT    NOT NULL, -- JSON
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    version      INTEGER NOT NULL
);

-- What waits to be claimed, in the order in which it is.
CREATE INDEX tasks_to_generate ON tasks (pinned DESC, rank DESC, id) WHERE state IN ('ready', 'failed');
CREATE INDEX tasks_to_verify ON tasks (pinned DESC, rank DESC, id) WHERE state = 'proposed';
CREATE INDEX tasks_to_integrate ON tasks (pinned DESC, rank DESC, id) WHERE state = 'approved';
CREATE INDEX tasks_by_due ON tasks (state, due_at);
CREATE INDEX tasks_by_lease ON tasks (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (holder) WHERE holder <> '';
CREATE INDEX tasks_in_order ON tasks (pinned DESC, rank DESC, id);
CREATE INDEX tasks_by_workspace ON tasks (workspace, state, pinned DESC, rank DESC, id);
CREATE UNIQUE INDEX tasks_by_key ON tasks (key)
    WHERE key <> '' AND state NOT IN ('done', 'dead', 'denied', 'cancelled', 'rolled_back');

CREATE TABLE task_gaps (
    task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    gap_id  TEXT NOT NULL,
    PRIMARY KEY (task_id, gap_id)
) WITHOUT ROWID;

CREATE INDEX task_gaps_by_gap ON task_gaps (gap_id, task_id);

CREATE TABLE task_dependencies (
    task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    on_id   TEXT NOT NULL,
    PRIMARY KEY (task_id, on_id)
) WITHOUT ROWID;

CREATE INDEX task_dependencies_by_on ON task_dependencies (on_id, task_id);

CREATE TABLE task_history (
    seq        INTEGER NOT NULL PRIMARY KEY, -- in order of insertion
    task_id    TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    action     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    by_whom    TEXT    NOT NULL,
    why        TEXT    NOT NULL,
    fence      INTEGER NOT NULL
);

CREATE INDEX task_history_by_task ON task_history (task_id);
