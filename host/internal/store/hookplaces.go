package store

import (
	"context"
	"database/sql"

	"github.com/sop-host/sop/host/internal/hook"
)

// HookPlaces are the [hook.Places] in a database.
type HookPlaces struct{ db *DB }

var _ hook.Places = (*HookPlaces)(nil)

// HookPlaces returns how far hooks have come.
func (db *DB) HookPlaces() *HookPlaces { return &HookPlaces{db} }

// Place implements [hook.Places].
func (p *HookPlaces) Place(ctx context.Context, name string) (revision int64, found bool, err error) {
	revision, err = number(ctx, p.db.read, "SELECT coalesce(max(revision), -1) FROM hook_places WHERE hook = $1", name)
	return max(revision, 0), err == nil && revision >= 0, p.db.translate(err)
}

// SetPlace implements [hook.Places].
func (p *HookPlaces) SetPlace(ctx context.Context, name string, revision int64) error {
	return p.db.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO hook_places (hook, revision) VALUES ($1, $2) ON CONFLICT (hook) DO UPDATE SET revision = excluded.revision", name, revision)
		return err
	})
}
