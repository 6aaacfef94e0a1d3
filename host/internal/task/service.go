package task

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sop-host/sop/sdk/scaffold"
)

// HostClaimant is who the host's own workers claim as.
const HostClaimant = "host"

// Options say how a Service works. The zero value is fine.
type Options struct {
	Settings  Settings         // see SetSettings
	Publisher Publisher        // nil: nobody is told
	Now       func() time.Time // nil: time.Now
	// Trees opens workspaces; nil: packages have no content of files.
	Trees Trees
	// Steps returns those by which a patch for a workspace is verified, by their
	// names, or all; gaps says that it closes some. nil: names are all that is known.
	Steps func(workspace string, names []string, gaps bool) ([]VerifyStep, error)
	// Scaffolds returns those of a sandbox plugin, or those that any may read where
	// the plugin has none of its own. nil: packages name none.
	Scaffolds func(sandbox string) *scaffold.Set
	// Proposals keep what agents submit; nil: nothing is taken.
	Proposals Proposals
	// Protocols returns the names of those that tasks may need; nil: any.
	Protocols func() []string
	// Unavailable says why a protocol that a task needs cannot be used; empty: it
	// can. nil: none can. It must not block.
	Unavailable func(protocol string) (why string)
	// Importers counts, for the directories of the Go packages of a workspace, the
	// packages that import them; nil: nobody knows. It is asked when tasks are made of
	// gaps in Go files.
	Importers func(ctx context.Context, workspace string) (map[string]int, error)
}

// Service is what operators, agents and the host's own loop do with tasks. It
// decides nothing about permission: nexus has done so. All methods are safe for
// concurrent use.
type Service struct {
	store    Store
	opt      Options
	settings atomic.Pointer[Settings]
	planning sync.Mutex           // of Plan; it guards routed
	routed   map[string]*Settings // by workspace: the settings that its tasks follow
	kick     chan struct{}        // has room for one: the sweeper looks again
	anew     atomic.Bool          // the sweeper looks at what is blocked, too
}

// NewService returns a Service. Whoever makes it calls Recover once, before
// anything is claimed, and Run for as long as the host lives.
func NewService(store Store, opt Options) *Service {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Unavailable == nil {
		opt.Unavailable = func(string) string { return "there are no protocols" }
	}
	s := &Service{store: store, opt: opt, kick: make(chan struct{}, 1), routed: make(map[string]*Settings)}
	s.SetSettings(opt.Settings)
	return s
}

// Settings are what the configuration says of tasks.
type Settings struct {
	Lease   time.Duration // of a claim that asks for none; 0: 5 minutes
	Backoff Backoff
	// PerWorkspace and PerSandbox bound how many tasks are generated for at a
	// time; 0: any number. What agents from outside hold counts for workspaces
	// only.
	PerWorkspace, PerSandbox int
	Attempts                 int // unless a rule says otherwise; 0: 3
	// Open is how many tasks of a workspace that were made from gaps are open at a
	// time; 0: 20.
	Open  int
	Rules []Rule
}

// Backoff is how long a task that failed waits: First, and twice as long each
// time, up to Most.
type Backoff struct{ First, Most time.Duration }

// Bounds of leases.
const (
	DefaultLease    = 5 * time.Minute
	LeastLease      = time.Second
	MostLease       = 24 * time.Hour
	DefaultAttempts = 3
)

// SetSettings replaces the settings for what is done from now on. Leases that run
// keep their length.
func (s *Service) SetSettings(settings Settings) {
	if settings.Lease == 0 {
		settings.Lease = DefaultLease
	}
	if settings.Attempts == 0 {
		settings.Attempts = DefaultAttempts
	}
	if settings.Open == 0 {
		settings.Open = DefaultOpen
	}
	if settings.Backoff == (Backoff{}) {
		settings.Backoff = Backoff{First: 30 * time.Second, Most: time.Hour}
	}
	s.settings.Store(&settings)
	s.wake()
}

// after is how long to wait after a number of attempts, with up to a fifth more
// or less, so that what failed together is not tried together.
func (b Backoff) after(attempts int) time.Duration {
	wait := b.First
	for range attempts - 1 {
		if wait *= 2; wait >= b.Most {
			break
		}
	}
	wait = min(wait, b.Most)
	return wait - wait/5 + time.Duration(rand.Int64N(int64(wait)/5*2+1)) //nolint:gosec // nobody gains from guessing it
}

// now is the time, in UTC and without its monotonic reading, as it is stored.
func (s *Service) now() time.Time { return s.opt.Now().UTC().Round(0) }

// wake makes the sweeper look again.
func (s *Service) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// LookAgain has tasks looked at that are blocked: something that some of them may
// wait for, such as a protocol, stands differently.
func (s *Service) LookAgain() {
	s.anew.Store(true)
	s.wake()
}

// work is one transaction under way: what it changes, and what follows from it.
type work struct {
	Tx
	service *Service
	now     time.Time
	changed Changed
}

// update runs one transaction. After the commit the subscribers are told.
func (s *Service) update(ctx context.Context, fn func(w *work) error) error {
	var w *work
	err := s.store.Update(ctx, func(tx Tx) error {
		w = &work{Tx: tx, service: s, now: s.now()}
		return fn(w)
	})
	if err != nil {
		return err
	}
	if len(w.changed.Changes) > 0 {
		s.wake()
		if s.opt.Publisher != nil {
			s.opt.Publisher.Publish(w.changed)
		}
	}
	return nil
}

// put stores a task with what happened to it, takes its gaps along, and unblocks
// what waited for it.
func (w *work) put(ctx context.Context, t *Task, c Change) error {
	if err := w.Put(ctx, []*Task{t}, []Change{c}); err != nil {
		return err
	}
	return w.follow(ctx, t, c)
}

// follow does what follows from a change that is stored.
func (w *work) follow(ctx context.Context, t *Task, c Change) error {
	copied := *t
	w.changed.Tasks = append(w.changed.Tasks, &copied)
	w.changed.Changes = append(w.changed.Changes, c)
	if c.From == c.To {
		return nil
	}
	if to := c.To.gapState(); to != "" && len(t.Gaps) > 0 {
		why := "task " + string(c.To)
		if c.Why != "" {
			why += ": " + c.Why
		}
		if err := w.MoveGaps(ctx, t.Gaps, to, "task "+t.ID, why, w.now); err != nil {
			return err
		}
	}
	if c.To == StateDone {
		return w.unblock(ctx, t.ID)
	}
	return nil
}

// Get returns the task that ref names, with its history.
func (s *Service) Get(ctx context.Context, ref string) (*Task, error) { return s.store.Get(ctx, ref) }

// List returns one page of the tasks that pass the filter.
func (s *Service) List(ctx context.Context, filter Filter) (Page, error) {
	if filter.At.IsZero() {
		filter.At = s.now()
	}
	return s.store.List(ctx, filter)
}

// Counts returns how many tasks there are.
func (s *Service) Counts(ctx context.Context) ([]Count, error) { return s.store.Counts(ctx) }

// NextDue returns when the first task that waits for the stage is due; false:
// none waits.
func (s *Service) NextDue(ctx context.Context, stage Stage) (time.Time, bool, error) {
	return s.store.NextDue(ctx, stage)
}

// GapsLive returns the ids of the gaps of a task that are not gone.
func (s *Service) GapsLive(ctx context.Context, ref string) ([]string, error) {
	t, err := s.store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	gaps, err := s.store.Gaps(ctx, t.Gaps)
	return live(gaps), err
}

func live(gaps []Gap) []string {
	var ids []string
	for i := range gaps {
		if gaps[i].Live {
			ids = append(ids, gaps[i].ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func newID() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}
