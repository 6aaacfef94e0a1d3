package audit

import (
	"context"
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
	q := &Queue{append: write, onError: onError, wake: make(chan struct{}, 1), done: make(chan struct{})}
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
	if q.closed || len(q.waiting) >= queueSize {
		q.lost++
		q.total++
		return
	}
	q.waiting = append(q.waiting, r)
	q.nudge()
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
		if err := q.append(context.Background(), batch...); err != nil {
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
	lost, q.lost = q.lost, 0
	if lost > 0 {
		batch = append(batch, Record{
			Actor: "host", Action: ActionLost, Resource: "audit", Outcome: Failure, Time: time.Now(),
			Reason: strconv.Itoa(lost) + " records could not be written", Attributes: map[string]string{"records": strconv.Itoa(lost)},
		})
	}
	return batch, lost, q.closed
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
