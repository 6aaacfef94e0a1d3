package maintenance

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Store keeps requests.
type Store interface {
	// Update runs fn in a transaction, perhaps more than once.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Get returns a request with its history, by its id or an unambiguous beginning
	// of it.
	Get(ctx context.Context, ref string) (*Record, error)
	List(ctx context.Context, filter Filter) (Page, error)
	// OpenSubsystems returns the subsystems with open requests.
	OpenSubsystems(ctx context.Context) ([]string, error)
}

// Tx is a transaction of a Store.
type Tx interface {
	// Open returns the open request about a subsystem in a workspace, or nil.
	Open(ctx context.Context, subsystem, workspace string) (*Record, error)
	// OpenOf returns all open requests about a subsystem.
	OpenOf(ctx context.Context, subsystem string) ([]*Record, error)
	// Get returns a request, without history.
	Get(ctx context.Context, id string) (*Record, error)
	// Put writes a request and what happened to it, each with its audit record.
	Put(ctx context.Context, r *Record, changes ...Change) error
}

// Happened is told of each change once it is on disk.
type Happened struct {
	Record *Record
	Change Change
}

// Tasks are made of requests.
type Tasks interface {
	// Open makes a task of a request for its owner, or finds the one that was made
	// of it and hands it to the owner.
	Open(ctx context.Context, r *Record) (taskID string, err error)
	// Close ends the task of a request, which has been closed.
	Close(ctx context.Context, r *Record) error
}

// Options configure a service.
type Options struct {
	Store Store
	// Tasks may be nil: then none are made.
	Tasks Tasks
	// OnHappened must not block; nil is fine.
	OnHappened func(Happened)
	// OnTaskError is told of tasks that could not be made or ended; nil is fine.
	OnTaskError func(r *Record, err error)
	Now         func() time.Time // nil: time.Now
}

// Service is all maintenance requests. It is safe for concurrent use.
type Service struct {
	opt    Options
	owners atomic.Pointer[Owners]

	mu   sync.Mutex
	open map[string]bool // subsystems that may have open requests
}

// NewService returns a service of what the store holds.
func NewService(ctx context.Context, opt Options) (*Service, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Service{opt: opt, open: make(map[string]bool)}
	s.owners.Store(&Owners{})
	subsystems, err := opt.Store.OpenSubsystems(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range subsystems {
		s.open[name] = true
	}
	return s, nil
}

// SetOwners says who owns what from now on. Requests that are open stay with whom
// they are until they are filed again.
func (s *Service) SetOwners(o Owners) { s.owners.Store(&o) }

// Check says whether File would take a request.
func (s *Service) Check(r Request) error { return r.check() }

// File asks for the maintenance of a subsystem. Where that was asked for already,
// it is counted.
func (s *Service) File(ctx context.Context, r Request) (*Record, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.open[r.Subsystem] = true // before it is there, so that Healthy never misses it
	s.mu.Unlock()
	var out *Record
	var changes []Change
	err := s.opt.Store.Update(ctx, func(tx Tx) error {
		found, err := tx.Open(ctx, r.Subsystem, r.Workspace)
		if err != nil {
			return err
		}
		out, changes, err = s.filed(found, &r)
		if err != nil {
			return err
		}
		return tx.Put(ctx, out, changes...)
	})
	if err != nil {
		return nil, err
	}
	s.tell(out, changes)
	return s.withTask(ctx, out, slices.ContainsFunc(changes, func(c Change) bool { return c.Action == Routed }))
}

// filed returns the request as it is once r was filed, and what happened to it.
func (s *Service) filed(found *Record, r *Request) (*Record, []Change, error) {
	now := s.opt.Now().UTC()
	owner := s.owners.Load().of(r.Subsystem)
	if found == nil {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, nil, err
		}
		out := &Record{
			ID: id.String(), Subsystem: r.Subsystem, Workspace: r.Workspace, State: Open, Severity: r.Severity, Description: r.Description,
			Remedy: r.Remedy, FiledBy: r.By, Owner: owner, Count: 1, FirstSeen: now, LastSeen: now,
		}
		return out, []Change{out.change(Filed, now, r.By, r.Description)}, nil
	}
	found.Count++
	found.LastSeen, found.Description = now, r.Description
	if r.Remedy != "" {
		found.Remedy = r.Remedy
	}
	var changes []Change
	if r.Severity > found.Severity {
		why := "from " + found.Severity.String() + " to " + r.Severity.String()
		found.Severity = r.Severity
		changes = append(changes, found.change(Raised, now, r.By, why))
	}
	if owner != found.Owner {
		found.Owner = owner
		changes = append(changes, found.change(Routed, now, r.By, "the configuration names another owner"))
	}
	return found, changes, nil
}

func (r *Record) change(action Action, at time.Time, by, why string) Change {
	return Change{ID: r.ID, Subsystem: r.Subsystem, Action: action, At: at, By: by, Why: why, Severity: r.Severity, Owner: r.Owner}
}

func (s *Service) tell(r *Record, changes []Change) {
	if s.opt.OnHappened == nil {
		return
	}
	for _, c := range changes {
		s.opt.OnHappened(Happened{Record: r, Change: c})
	}
}

// withTask makes a task of a request that has none, and hands the one of a request
// that was routed to its new owner. A request stands without one,
// too: that none could be made is told, and tried again when it is filed again.
func (s *Service) withTask(ctx context.Context, r *Record, routed bool) (*Record, error) {
	if s.opt.Tasks == nil || r.TaskID != "" && !routed {
		return r, nil
	}
	id, err := s.opt.Tasks.Open(ctx, r)
	if err != nil {
		s.taskError(r, err)
		return r, nil
	}
	if id == r.TaskID {
		return r, nil
	}
	err = s.opt.Store.Update(ctx, func(tx Tx) error {
		current, err := tx.Get(ctx, r.ID)
		if err != nil {
			return err
		}
		current.TaskID = id
		r = current
		return tx.Put(ctx, current)
	})
	return r, err
}

func (s *Service) taskError(r *Record, err error) {
	if s.opt.OnTaskError != nil {
		s.opt.OnTaskError(r, err)
	}
}

// Healthy closes what was asked for about a subsystem, and returns how many
// requests that were. Where there are none it costs next to nothing.
func (s *Service) Healthy(ctx context.Context, subsystem, by string) (int, error) {
	s.mu.Lock()
	may := s.open[subsystem]
	delete(s.open, subsystem)
	s.mu.Unlock()
	if !may {
		return 0, nil
	}
	closed, changes, err := s.closeAll(ctx, subsystem, by)
	if err != nil {
		s.mu.Lock()
		s.open[subsystem] = true
		s.mu.Unlock()
		return 0, err
	}
	for i, r := range closed {
		s.tell(r, changes[i:i+1])
		s.endTask(ctx, r)
	}
	return len(closed), nil
}

func (s *Service) closeAll(ctx context.Context, subsystem, by string) (closed []*Record, changes []Change, err error) {
	err = s.opt.Store.Update(ctx, func(tx Tx) error {
		closed, changes = nil, nil
		all, err := tx.OpenOf(ctx, subsystem)
		if err != nil {
			return err
		}
		for _, r := range all {
			c := r.close(s.opt.Now().UTC(), by, "the subsystem is healthy again")
			if err := tx.Put(ctx, r, c); err != nil {
				return err
			}
			closed, changes = append(closed, r), append(changes, c)
		}
		return nil
	})
	return closed, changes, err
}

func (r *Record) close(at time.Time, by, why string) Change {
	r.State, r.ClosedAt, r.ClosedBy, r.CloseReason = Closed, at, by, why
	return r.change(Ended, at, by, why)
}

func (s *Service) endTask(ctx context.Context, r *Record) {
	if s.opt.Tasks == nil || r.TaskID == "" {
		return
	}
	if err := s.opt.Tasks.Close(ctx, r); err != nil {
		s.taskError(r, err)
	}
}

// CheckClose says whether Close would close, and returns the request as it is.
func (s *Service) CheckClose(ctx context.Context, ref, why string) (*Record, error) {
	if len(why) > maxReason {
		return nil, invalid("reason", "the reason is longer than %d bytes", maxReason).WithRemedy("say it in fewer words")
	}
	return s.opt.Store.Get(ctx, ref)
}

// Close closes a request; one that is closed stays as it is.
func (s *Service) Close(ctx context.Context, ref, by, why string) (*Record, error) {
	found, err := s.CheckClose(ctx, ref, why)
	if err != nil {
		return nil, err
	}
	if why == "" {
		why = "closed by hand"
	}
	var changes []Change
	err = s.opt.Store.Update(ctx, func(tx Tx) error {
		changes = nil
		r, err := tx.Get(ctx, found.ID)
		if err != nil || r.State == Closed {
			found = r
			return err
		}
		found = r
		changes = []Change{r.close(s.opt.Now().UTC(), by, printable(why))}
		return tx.Put(ctx, r, changes...)
	})
	if err != nil {
		return nil, err
	}
	s.tell(found, changes)
	if len(changes) > 0 {
		s.endTask(ctx, found)
	}
	return s.opt.Store.Get(ctx, found.ID)
}

// Get returns a request with its history.
func (s *Service) Get(ctx context.Context, ref string) (*Record, error) {
	return s.opt.Store.Get(ctx, ref)
}

// List lists requests.
func (s *Service) List(ctx context.Context, filter Filter) (Page, error) {
	return s.opt.Store.List(ctx, filter)
}
