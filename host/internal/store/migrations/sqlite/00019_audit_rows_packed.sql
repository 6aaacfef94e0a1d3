-- +goose Up

-- A record in a row of audit_records may be written as what is different in it from
-- the one before; see audit/pack.go. Rows that were written before are what they
-- were. An older host would take the others for damaged, and does not open a
-- database of this version.
SELECT 1;
