package maintenance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store without a database.
type memory struct {
	mu      sync.Mutex
	records map[string]Record
	changes []Change
	reads   int
}

type memoryTx struct{ *memory }

func (m *memory) Update(_ context.Context, fn func(tx Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(memoryTx{m})
}

func (m memoryTx) Open(_ context.Context, subsystem, workspace string) (*Record, error) {
	for _, r := range m.records {
		if r.State == Open && r.Subsystem == subsystem && r.Workspace == workspace {
			return &r, nil
		}
	}
	return nil, nil
}

func (m memoryTx) OpenOf(_ context.Context, subsystem string) (out []*Record, err error) {
	m.reads++
	for _, r := range m.records {
		if r.State == Open && r.Subsystem == subsystem {
			out = append(out, &r)
		}
	}
	return out, nil
}

func (m memoryTx) Get(_ context.Context, id string) (*Record, error) {
	r, ok := m.records[id]
	if !ok {
		return nil, NotFound(id)
	}
	return &r, nil
}

func (m memoryTx) Put(_ context.Context, r *Record, changes ...Change) error {
	m.records[r.ID] = *r
	m.changes = append(m.changes, changes...)
	return nil
}

func (m *memory) Get(ctx context.Context, ref string) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return memoryTx{m}.Get(ctx, ref)
}
func (*memory) List(context.Context, Filter) (Page, error) { return Page{}, nil }
func (m *memory) OpenSubsystems(context.Context) (out []string, err error) {
	for _, r := range m.records {
		if r.State == Open {
			out = append(out, r.Subsystem)
		}
	}
	return out, nil
}

// fakeTasks makes tasks, and fails while it is broken.
type fakeTasks struct {
	broken         bool
	opened, closed []string
}

func (f *fakeTasks) Open(_ context.Context, r *Record) (string, error) {
	if f.broken {
		return "", errors.New("no tasks now")
	}
	f.opened = append(f.opened, r.Subsystem)
	return "task-" + r.Subsystem, nil
}

func (f *fakeTasks) Close(_ context.Context, r *Record) error {
	f.closed = append(f.closed, r.TaskID)
	return nil
}

func newService(t *testing.T, m *memory, tasks Tasks) *Service {
	t.Helper()
	s, err := NewService(t.Context(), Options{Store: m, Tasks: tasks})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(t *testing.T, s *Service, subsystem, workspace string, severity Severity) *Record {
	t.Helper()
	r, err := s.File(t.Context(), Request{Subsystem: subsystem, Description: "it fails", Severity: severity, Workspace: workspace, By: "host"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFileCountsAndRaises(t *testing.T) {
	m, tasks := &memory{records: make(map[string]Record)}, &fakeTasks{}
	s := newService(t, m, tasks)
	first := file(t, s, "disk", "", Medium)
	file(t, s, "disk", "", Low)
	again := file(t, s, "disk", "", Critical)
	other := file(t, s, "disk", "main", Low)
	if again.ID != first.ID || again.Count != 3 || again.Severity != Critical || other.ID == first.ID || again.TaskID != "task-disk" || len(tasks.opened) != 2 {
		t.Errorf("%+v, %+v, tasks %v", again, other, tasks.opened)
	}
	var actions []Action
	for _, c := range m.changes {
		actions = append(actions, c.Action)
	}
	if !slices.Equal(actions, []Action{Filed, Raised, Filed}) {
		t.Errorf("recorded %v", actions)
	}
	n, err := s.Healthy(t.Context(), "disk", "host")
	if err != nil || n != 2 || len(tasks.closed) != 2 {
		t.Errorf("%d closed, %v, tasks %v", n, err, tasks.closed)
	}
	if next := file(t, s, "disk", "", Low); next.ID == first.ID || next.Count != 1 {
		t.Errorf("the next is another: %+v", next)
	}
}

// Where nothing is open, healthy subsystems cost no transaction: also after a
// restart, which finds what was open.
func TestHealthyIsCheap(t *testing.T) {
	m := &memory{records: make(map[string]Record)}
	s := newService(t, m, nil)
	for range 1000 {
		if n, err := s.Healthy(t.Context(), "disk", "host"); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	if m.reads != 0 {
		t.Errorf("%d reads", m.reads)
	}
	file(t, s, "disk", "", Low)
	if n, err := newService(t, m, nil).Healthy(t.Context(), "disk", "host"); n != 1 || err != nil {
		t.Errorf("after a restart: %d, %v", n, err)
	}
}

func TestClose(t *testing.T) {
	m := &memory{records: make(map[string]Record)}
	s := newService(t, m, nil)
	r := file(t, s, "disk", "", Low)
	for range 2 {
		closed, err := s.Close(t.Context(), r.ID, "uid:0", "replaced\x1b")
		if err != nil || closed.State != Closed || closed.ClosedBy != "uid:0" || closed.CloseReason != "replaced" {
			t.Errorf("%+v, %v", closed, err)
		}
	}
	if len(m.changes) != 2 {
		t.Errorf("%d changes", len(m.changes))
	}
	if _, err := s.Close(t.Context(), "none", "uid:0", ""); sdk.FromError(err).Reason != "MAINTENANCE_NOT_FOUND" {
		t.Errorf("%v", err)
	}
}

// A request stands without its task, which is made when it is filed again.
func TestTaskThatCannotBeMade(t *testing.T) {
	tasks := &fakeTasks{broken: true}
	s := newService(t, &memory{records: make(map[string]Record)}, tasks)
	if r := file(t, s, "disk", "", Low); r.TaskID != "" {
		t.Errorf("%+v", r)
	}
	tasks.broken = false
	if r := file(t, s, "disk", "", Low); r.TaskID != "task-disk" || r.Count != 2 {
		t.Errorf("%+v", r)
	}
}

func TestRefusals(t *testing.T) {
	s := newService(t, &memory{records: make(map[string]Record)}, nil)
	for field, r := range map[string]Request{
		"subsystem":   {Subsystem: "Disk 1", Description: "d", By: "a"},
		"description": {Subsystem: "disk", Description: " ", By: "a"},
		"by":          {Subsystem: "disk", Description: "d"},
		"severity":    {Subsystem: "disk", Description: "d", By: "a", Severity: 9},
		"workspace":   {Subsystem: "disk", Description: "d", By: "a", Workspace: strings.Repeat("w", 300)},
	} {
		_, err := s.File(t.Context(), r)
		if e := sdk.FromError(err); e == nil || len(e.Fields) != 1 || e.Fields[0].Field != field || e.Remedy == "" {
			t.Errorf("%s: %+v", field, e)
		}
	}
}

func TestOwners(t *testing.T) {
	o := Owners{Default: "operator/night", Of: []Owner{{"component.*", "operator/stack"}, {"component.scp", "protocol/arp"}, {"*.payloads", "operator/disk"}, {"*", "operator/any"}}}
	for subsystem, want := range map[string]string{
		"component.scp": "protocol/arp", "component.arp": "operator/stack", "protocol.arp.payloads": "operator/disk", "store": "operator/any",
	} {
		if got := o.of(subsystem); got != want {
			t.Errorf("%s: %s, want %s", subsystem, got, want)
		}
	}
	if got := (&Owners{}).of("x"); got != DefaultOwner {
		t.Error(got)
	}
	for pattern, names := range map[string][2]string{"a*c": {"abc", "abd"}, "*b*": {"abc", "ac"}, "a": {"a", "ab"}, "a*": {"a", "b"}, "*ab*ab": {"xabxab", "ab"}} {
		if !covers(pattern, names[0]) || covers(pattern, names[1]) {
			t.Errorf("%s: %v", pattern, names)
		}
	}
	m, tasks := &memory{records: make(map[string]Record)}, &fakeTasks{}
	s := newService(t, m, tasks)
	file(t, s, "component.scp", "", Low)
	s.SetOwners(o)
	for range 2 { // the task is handed over once
		if r := file(t, s, "component.scp", "", Low); r.Owner != "protocol/arp" || m.changes[1].Action != Routed || len(tasks.opened) != 2 {
			t.Errorf("%+v, tasks %v", r, tasks.opened)
		}
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s, err := NewService(t.Context(), Options{Store: &memory{records: make(map[string]Record)}, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	if r := file(t, s, "disk", "", Low); !r.FirstSeen.Equal(at) || !r.LastSeen.Equal(at) {
		t.Errorf("%+v", r)
	}
}
