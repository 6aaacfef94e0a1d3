-- +goose Up

ALTER TABLE tasks ADD COLUMN interruptions INTEGER NOT NULL DEFAULT 0; -- by the end of the host
