package ship

import (
	"context"
	"iter"
	"time"
)

// mirrorBatch is how many records are sent at a time: what is held in memory,
// and what is sent again at most when an attempt fails.
const mirrorBatch = 500

// nextRecords waits for records after the last that was sent, wherever they are.
func (c *carrier) nextRecords(ctx context.Context) ([]message, uint64, error) {
	for {
		changed := c.opt.Trail.Store.Changed() // before looking, so that no record is missed
		batch, err := c.readOn(ctx)
		if err != nil {
			return nil, 0, err
		}
		if len(batch) > 0 {
			return batch, batch[len(batch)-1].record.Seq, nil
		}
		if err := c.await(ctx, changed); err != nil {
			return nil, 0, err
		}
	}
}

// readOn reads the next batch, going on where the last one ended.
func (c *carrier) readOn(ctx context.Context) ([]message, error) {
	next := c.sent() + 1
	if c.pull == nil {
		c.pull, c.unpull = iter.Pull2(c.opt.Trail.Records(ctx, next))
	}
	var batch []message
	for len(batch) < mirrorBatch {
		r, err, more := c.pull()
		if !more {
			c.rewind()
			break
		}
		if err == nil && r.Seq != next {
			err = cannot("see what is wrong with: sop audit verify", "record %d is not there", next)
		}
		if err != nil {
			c.rewind()
			return nil, err
		}
		batch = append(batch, message{record: r})
		next++
	}
	return batch, nil
}

// rewind makes the next reading begin after the last record that was sent.
func (c *carrier) rewind() {
	if c.pull != nil {
		c.unpull()
		c.pull, c.unpull = nil, nil
	}
}

// await waits for a change of the log, and saves the cursor meanwhile.
func (c *carrier) await(ctx context.Context, changed <-chan struct{}) error {
	timer := time.NewTimer(saveEvery)
	defer timer.Stop()
	for {
		select {
		case <-changed:
			return nil
		case <-timer.C:
			if err := c.save(ctx, true); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
