package audit

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"
)

// Queue writes records that must not hold up what they tell about. It is
// bounded: what does not fit is lost, and that is a record too. Use it only for
// what has happened already; what may still be refused goes to [Log.Append].
type Queue struct {
	append  func(ctx context.Context, records ...Record) error
	onError func(error)
	wake    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	waiting []Record
	taken   int           // since the beginning
	settled int           // of those taken: written, or lost in the attempt
	moved   chan struct{} // closed and replaced when there is more room, or more is settled
	lost    int
	total   int // lost since the beginning
	closed  bool
}

// queueSize is how many records may wait, and queueBatch how many are written
// at a time.
const (
	queueSize  = 4096
	queueBatch = 256
)

// ActionLost is the action of the record that says that records were lost.
const ActionLost = "audit.lost"

// NewQueue returns a queue that writes with append, which may be that of a
// [Log]; onError is told what it returns. Whoever makes it closes it.
func NewQueue(write func(ctx context.Context, records ...Record) error, onError func(error)) *Queue {
	q := &Queue{append: write, onError: onError, wake: make(chan struct{}, 1), done: make(chan struct{}), moved: make(chan struct{})}
	go q.run()
	return q
}

// Record takes a record; it does not block.
func (q *Queue) Record(r Record) {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.enqueue(r) {
		q.lost++
		q.total++
	}
}

// Put takes a record of what was done under ctx, which knows more of it, and waits
// for room where Record would lose it. An error says that it was not taken: ctx is
// done, or the queue closed.
func (q *Queue) Put(ctx context.Context, r Record) error {
	r.complete(ctx)
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	for {
		q.mu.Lock()
		taken, closed, moved := q.enqueue(r), q.closed, q.moved
		q.mu.Unlock()
		switch {
		case taken:
			return nil
		case closed:
			return errQueueClosed
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errQueueClosed = errors.New("the host records no more")

// Flush waits until what was taken before is in the log, or could not be written.
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	mark := q.taken
	q.mu.Unlock()
	for {
		q.mu.Lock()
		reached, moved := q.settled >= mark, q.moved
		q.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enqueue says whether there was room for a record; mu is held.
func (q *Queue) enqueue(r Record) bool {
	if q.closed || len(q.waiting) >= queueSize {
		return false
	}
	q.waiting = append(q.waiting, r)
	q.taken++
	q.nudge()
	return true
}

// move tells who waits that there is more room, or more is settled; mu is held.
func (q *Queue) move() {
	close(q.moved)
	q.moved = make(chan struct{})
}

// Stats says how many records wait, and how many have been lost in all.
func (q *Queue) Stats() (waiting, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.total
}

// nudge wakes the writer; mu is held.
func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close writes what waits and ends. It may be called again.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.nudge()
	q.mu.Unlock()
	<-q.done
}

func (q *Queue) run() {
	defer close(q.done)
	for range q.wake {
		if q.drain() {
			return
		}
	}
}

// drain writes what waits and reports whether the queue is closed.
func (q *Queue) drain() bool {
	for {
		batch, lost, closed := q.take()
		if len(batch) == 0 {
			return closed
		}
		err := q.append(context.Background(), batch...)
		q.settle(len(batch), lost)
		if err != nil {
			q.onError(err)
			if q.miss(len(batch), lost) == 0 {
				return closed // the loss is told with the next record
			}
		}
	}
}

// take returns what to write next, with a record of what was lost before it,
// and how many were.
func (q *Queue) take() (batch []Record, lost int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), queueBatch)
	batch, q.waiting = q.waiting[:n:n], q.waiting[n:]
	q.move()
	lost, q.lost = q.lost, 0
	if lost > 0 {
		batch = append(batch, Record{
			Actor: "host", Action: ActionLost, Resource: "audit", Outcome: Failure, Time: time.Now(),
			Reason: strconv.Itoa(lost) + " records could not be written", Attributes: map[string]string{"records": strconv.Itoa(lost)},
		})
	}
	return batch, lost, q.closed
}

// settle counts a batch that has been written, or could not be.
func (q *Queue) settle(batch, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if lost > 0 {
		batch-- // the record of what was lost
	}
	q.settled += batch
	q.move()
}

// miss counts a batch that could not be written and returns how many records
// wait. The loss is told when the next batch can be written.
func (q *Queue) miss(batch, lost int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if lost > 0 {
		batch-- // the record of what was lost
	}
	q.lost += batch + lost
	q.total += batch
	return len(q.waiting)
}
