-- +goose Up

-- A row of audit_records may hold several records now, one behind the other; see
-- auditblocks.go. Rows of one are what they were. A host that knows rows of one only
-- would take the others for damaged, and does not open a database of this version.
SELECT 1;
