package store

import (
	"context"
	"database/sql"
)

// What is committed stands in the write-ahead log until it is copied into the
// database. SQLite makes a writer do that after its commit when the log has grown
// to a limit, and all who wait for their turn wait for it: megabytes and two
// syncs. So it is done beside the writers, more often, by a reading connection;
// then there is little left to do for the one who comes to the limit, and the log
// begins anew.

// checkpointTurns is after how many turns of writers what they wrote is copied:
// few enough that it is done before the log comes to its limit, which is 4000
// pages, with one or two pages a turn.
const checkpointTurns = 1000

// checkpointer copies the log into the database.
type checkpointer struct {
	read  *sql.DB
	turns int // since the last; the writer's
	due   chan struct{}
	stop  context.CancelFunc
	done  chan struct{}
}

func newCheckpointer(read *sql.DB) *checkpointer {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpointer{read: read, due: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
	go c.run(ctx)
	return c
}

// wrote tells of turns that were committed. The writer calls it.
func (c *checkpointer) wrote(turns int) {
	if c.turns += turns; c.turns < checkpointTurns {
		return
	}
	c.turns = 0
	select {
	case c.due <- struct{}{}:
	default: // it is at it
	}
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.due:
		}
		// What fails here, as on a full disk, fails for the writer that comes to the
		// limit too; until then nothing depends on it.
		_, _, _ = c.copy(ctx)
	}
}

// copy copies what is committed, without waiting for anybody. It says how many
// pages there are in the log, and how many of them are copied.
func (c *checkpointer) copy(ctx context.Context) (pages, copied int, err error) {
	var busy int
	err = c.read.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
	return pages, copied, err
}

// end waits for a copy under way. It may be called again.
func (c *checkpointer) end() {
	c.stop()
	<-c.done
}
