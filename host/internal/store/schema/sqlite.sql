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
CREATE TABLE audit_head (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    last BLOB    NOT NULL,
    edge BLOB    NOT NULL -- right edge of the tree
);
CREATE TABLE audit_checkpoints (
    size INTEGER NOT NULL PRIMARY KEY,
    note TEXT    NOT NULL
);
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
CREATE TABLE token_answers (
    token_id TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    key      TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    request  BLOB    NOT NULL,
    answer   TEXT    NOT NULL, -- JSON
    PRIMARY KEY (token_id, key)
);
CREATE INDEX token_answers_by_time ON token_answers (at);
CREATE TABLE token_clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
);
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
CREATE TABLE api_answers (
    id      BLOB    NOT NULL PRIMARY KEY,
    request BLOB    NOT NULL,
    at      INTEGER NOT NULL, -- UTC in nanoseconds since the Unix epoch
    sealed  BLOB              -- encrypted; NULL while there is no answer
);
CREATE INDEX api_answers_by_time ON api_answers (at);
CREATE TABLE audit_archives (
    first_seq  INTEGER NOT NULL PRIMARY KEY,
    last_seq   INTEGER NOT NULL UNIQUE,
    file       TEXT    NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     BLOB    NOT NULL, -- of the file
    last       BLOB    NOT NULL, -- hash of the last record
    edge       BLOB    NOT NULL, -- right edge of the tree after it
    note       TEXT    NOT NULL, -- the checkpoint after it
    from_time  INTEGER NOT NULL,
    until_time INTEGER NOT NULL,
    at         INTEGER NOT NULL
);
CREATE TABLE audit_cursors (
    name TEXT    NOT NULL PRIMARY KEY,
    seq  INTEGER NOT NULL
);
CREATE TABLE audit_records (
    seq    INTEGER NOT NULL PRIMARY KEY,
    record BLOB    NOT NULL
);
CREATE TABLE audit_spans (
    last_seq  INTEGER NOT NULL PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    from_at   INTEGER NOT NULL, -- UTC in nanoseconds since the Unix epoch
    until_at  INTEGER NOT NULL, -- likewise, the latest
    resources BLOB    NOT NULL  -- CRC-32 of each, big-endian
);
CREATE TRIGGER audit_records_stay BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit records are not changed');
END;
CREATE TRIGGER audit_records_last BEFORE DELETE ON audit_records
WHEN OLD.seq > (SELECT coalesce(max(last_seq), 0) FROM audit_archives)
BEGIN
    SELECT RAISE(ABORT, 'audit records are not deleted');
END;
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
, interruptions INTEGER NOT NULL DEFAULT 0);
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
CREATE TABLE patch_contents (
    patch_id TEXT    NOT NULL REFERENCES patches (id) ON DELETE CASCADE,
    hash     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    PRIMARY KEY (patch_id, hash)
);
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
CREATE TABLE hook_places (
    hook     TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL
);
CREATE TABLE events (
    revision INTEGER NOT NULL PRIMARY KEY, -- from 1, without gaps
    record   BLOB    NOT NULL              -- see eventform.go
);
CREATE TABLE token_history (
    seq      INTEGER NOT NULL PRIMARY KEY, -- in order of insertion
    token_id TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    changes  BLOB    NOT NULL              -- see tokenhistory.go
);
CREATE INDEX token_history_by_token ON token_history (token_id);
