package audit

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Store in memory; storetest says what a real one must do.
type memory struct {
	mu      sync.Mutex
	head    Head
	records []*Record
	notes   []*Checkpoint
	changed chan struct{}
	cursors map[string]uint64
	fail    error
}

func newMemory() *memory { return &memory{changed: make(chan struct{})} }

func (m *memory) Append(ctx context.Context, records ...Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, r := range records {
		Seal(ctx, &m.head, &r)
		m.records = append(m.records, &r)
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *memory) Head(context.Context) (Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head, m.fail
}

func (m *memory) Records(_ context.Context, from uint64) iter.Seq2[*Record, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return all(m.records[min(max(from, 1)-1, uint64(len(m.records))):])
}

func (m *memory) List(_ context.Context, f Filter) (Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Page{Records: m.records[f.After:]}, m.fail
}

func (m *memory) PutCheckpoint(_ context.Context, c *Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes = append(m.notes, c)
	return nil
}

func (m *memory) Checkpoints(context.Context) ([]*Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notes, nil
}

func (m *memory) LastCheckpoint(context.Context) (*Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.notes) == 0 {
		return nil, nil
	}
	return m.notes[len(m.notes)-1], nil
}

func (m *memory) Archived(context.Context) ([]Segment, error) { return nil, nil }

func (m *memory) Archive(context.Context, *Segment, ...Record) error {
	return errors.New("this store archives nothing")
}

func (m *memory) Remove(context.Context) (bool, error) { return false, nil }

func (m *memory) Before(context.Context, time.Time) (uint64, error) { return 0, nil }

func (m *memory) Cursor(_ context.Context, name string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursors[name], nil
}

func (m *memory) PutCursor(_ context.Context, name string, seq uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cursors == nil {
		m.cursors = make(map[string]uint64)
	}
	m.cursors[name] = seq
	return m.fail
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *memory) signed() (sizes []uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.notes {
		sizes = append(sizes, c.Size)
	}
	return sizes
}

// Checkpoints are signed after so many records, after so long, and at the end.
func TestRunSigns(t *testing.T) {
	key, _ := testKey(t)
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		l, err := NewLog(Options{Store: m, Key: key, Every: 10, Interval: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		step := func(n int, d time.Duration, want ...uint64) {
			t.Helper()
			synctest.Wait()
			for range n {
				if err := l.Append(ctx, Record{}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(d) // of the bubble's clock
			synctest.Wait()
			got := m.signed()
			if len(got) < len(want) || got[len(got)-1] != want[len(want)-1] || len(got) != len(want) {
				t.Errorf("signed %v, want %v", got, want)
			}
		}
		step(9, time.Second, 0)
		step(1, time.Second, 0, 10)
		step(3, time.Second, 0, 10)
		step(0, time.Minute, 0, 10, 13)
		step(0, time.Hour, 0, 10, 13)
		step(1, time.Second, 0, 10, 13)
		cancel()
		<-done
		if got := m.signed(); got[len(got)-1] != 14 {
			t.Errorf("at the end: %v", got)
		}
		if report, err := l.Verify(t.Context()); err != nil || report.Fault != nil || report.Signed != 14 {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

func TestFollow(t *testing.T) {
	key, _ := testKey(t)
	m := newMemory()
	l, err := NewLog(Options{Store: m, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	want := uint64(0)
	if err := l.Append(ctx, make([]Record, 3)...); err != nil {
		t.Fatal(err)
	}
	for r, err := range l.Follow(ctx, Filter{}) {
		want++
		if err != nil || r.Seq != want {
			t.Fatalf("%+v, %v", r, err)
		}
		if want >= 3 && want < 10 {
			if err := l.Append(ctx, Record{}); err != nil {
				t.Fatal(err)
			}
		}
		if want == 10 {
			cancel()
		}
	}
	if want != 10 {
		t.Errorf("%d records", want)
	}
}

// What the queue could not write is told as soon as it can.
func TestQueueTellsWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.fail = errors.New("disk full")
		failures := 0
		q := NewQueue(m.Append, func(error) { failures++ })
		q.Record(Record{Action: "a"})
		synctest.Wait()
		q.Record(Record{Action: "b"})
		synctest.Wait()
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		q.Record(Record{Action: "c"})
		synctest.Wait()
		q.Close()
		q.Close()
		q.Record(Record{Action: "late"})
		if failures != 2 || len(m.records) != 2 || m.records[0].Action != "c" || m.records[1].Action != ActionLost || m.records[1].Attributes["records"] != "2" {
			t.Errorf("%d failures, records %+v", failures, m.records)
		}
	})
}

// A full queue does not block, and says how much did not fit.
func TestFullQueue(t *testing.T) {
	m := newMemory()
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	q := NewQueue(func(ctx context.Context, records ...Record) error {
		once.Do(func() { close(held); <-release })
		return m.Append(ctx, records...)
	}, func(err error) { t.Error(err) })
	q.Record(Record{})
	<-held
	for range queueSize + 7 {
		q.Record(Record{})
	}
	close(release)
	q.Close()
	lost := 0
	for _, r := range m.records {
		if r.Action == ActionLost {
			n, err := strconv.Atoi(r.Attributes["records"])
			if err != nil {
				t.Fatal(err)
			}
			lost += n
		}
	}
	if lost != 7 || len(m.records) != queueSize+2 {
		t.Errorf("%d lost, %d records", lost, len(m.records))
	}
}

func BenchmarkSeal(b *testing.B) {
	var head Head
	for b.Loop() {
		r := Record{Time: time.Unix(1, 0), Actor: "uid:1000", Action: "gap.suppress", Resource: "gap/019cb000-0000-7000-8000-000000000001", Outcome: Success, Reason: "generated"}
		Seal(context.Background(), &head, &r)
	}
}
