package plugin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// Options configure a pool.
type Options struct {
	// RunDir holds the plugins' private directories. The pool owns it: what a
	// killed host left there is removed. It is made with mode 0700.
	RunDir string
	// Logger receives the plugins' records, named by plugin.
	Logger hclog.Logger
	// HostVersion is told to the plugins.
	HostVersion string
	// CgroupRecord is a file that keeps where the plugins' cgroups are, so that
	// what a killed host left of them is found; RunDir with ".cgroups" appended
	// when empty. It is there while the pool is.
	CgroupRecord string
	// OnEvent is called for each step of each generation, from several
	// goroutines; it must not block and must not call the pool. nil is fine.
	OnEvent func(Event)
	// Admit is called with each generation that is healthy, before it is put in
	// service: an error keeps it out. The connection is that of the generation. nil
	// admits all.
	Admit func(ctx context.Context, id string, generation int, conn grpc.ClientConnInterface) error
	// Callbacks serves the plugins' requests; nil: they have no way back.
	Callbacks Callbacks
	// SandboxLauncher finds the program that isolates, sop-sandbox, or says why it
	// cannot be used; nil: plugins that ask for a sandbox are refused.
	SandboxLauncher func() (string, error)
	// Locked returns the checksum that the lock file has now of a plugin, empty for
	// one that it does not have: what [Pool.Restart] starts must be what stands there.
	// Nil: the checksum of the specification is enough.
	Locked func(id string) (hash string, err error)
	// Halted says why nothing is to be started; nil when all may. A nil function
	// never objects.
	Halted func() error
	// HealthInterval and HealthTimeout default to 5 s each. Three failures in a
	// row end a generation: a busy machine must not look like a hung plugin.
	HealthInterval, HealthTimeout time.Duration
}

// Event is a step in the life of a plugin.
type Event struct {
	ID         string
	Generation int
	// Phase is one of the phases of a start, or "failed", "exited",
	// "unhealthy", "retired", "stopped".
	Phase Phase
	At    time.Time
	// PID is set from [PhaseHandshake] on.
	PID int
	// Err is set where something failed.
	Err error
}

// Pool runs all configured plugins, of whatever kind.
type Pool struct {
	starter        starter
	logger         hclog.Logger
	onEvent        func(Event)
	now            func() time.Time
	healthInterval time.Duration
	healthTimeout  time.Duration
	haltedBy       func() error
	locked         func(id string) (string, error)

	ctx        context.Context //nolint:containedctx // the pool's own life; Close ends it
	cancel     context.CancelFunc
	background sync.WaitGroup // retiring generations and health watches
	apply      sync.Mutex     // held from Prepare to Commit or Discard, and by Close

	mu      sync.RWMutex
	units   map[string]*unit
	numbers map[string]int // last generation by plugin, removed ones included
	closed  bool
}

// New makes an empty pool.
func New(opt Options) (*Pool, error) {
	if opt.Logger == nil {
		opt.Logger = hclog.NewNullLogger()
	}
	if opt.SandboxLauncher == nil {
		opt.SandboxLauncher = func() (string, error) { return "", errNoLauncher }
	}
	dir, err := openRunDir(opt.RunDir)
	if err != nil {
		return nil, err
	}
	n, err := endStrays(dir.real)
	if err == nil {
		err = clearDir(dir.real)
	}
	if err != nil {
		return nil, errors.Join(err, dir.dir.Close())
	}
	if n > 0 {
		opt.Logger.Warn("ended processes that an earlier host's plugins had left", "count", n)
	}
	cgroups, err := cgroup.Open(cgroup.Options{Owner: dir.real, Record: cmp.Or(opt.CgroupRecord, dir.real+".cgroups")})
	if err != nil {
		opt.Logger.Warn("prepare cgroups", "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{
		starter: starter{
			verifier: &verifier{}, launcher: process.NewLauncher(true), cgroups: cgroups, logger: opt.Logger,
			runDir: dir, version: opt.HostVersion, serve: opt.Callbacks, admit: opt.Admit, box: opt.SandboxLauncher,
		},
		logger: opt.Logger, onEvent: opt.OnEvent, now: time.Now, haltedBy: opt.Halted, locked: opt.Locked,
		healthInterval: orDefault(opt.HealthInterval, 5*time.Second),
		healthTimeout:  orDefault(opt.HealthTimeout, 5*time.Second),
		ctx:            ctx, cancel: cancel,
		units: make(map[string]*unit), numbers: make(map[string]int),
	}, nil
}

var errNoLauncher = errors.New("there is no launcher")

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

func (p *Pool) emit(e Event) {
	if p.onEvent != nil {
		e.At = p.now()
		p.onEvent(e)
	}
}

// startGeneration starts the next generation of spec.
func (p *Pool) startGeneration(ctx context.Context, spec *Spec, only Phase) (*generation, error) {
	if e := p.halted(); e != nil {
		return nil, e
	}
	p.mu.Lock()
	p.numbers[spec.ID()]++
	number := p.numbers[spec.ID()]
	p.mu.Unlock()
	g, err := p.starter.start(ctx, spec, number, func(ph Phase) {
		p.emit(Event{ID: spec.ID(), Generation: number, Phase: ph})
	}, only, nil)
	if err != nil {
		p.logger.Error("plugin did not start", "plugin", spec.ID(), "generation", number, "error", err)
		p.emit(Event{ID: spec.ID(), Generation: number, Phase: "failed", Err: err})
		return nil, err
	}
	p.logger.Info("plugin started", "plugin", spec.ID(), "generation", number, "pid", g.runner.pid(), "containment", g.runner.containmentLevel(), "cgroup", string(g.runner.confinedBy().version))
	return g, nil
}

// Start begins with specs and returns when each is ready or has failed once, or
// when ctx is done. A plugin that fails does not keep the others from starting;
// [Pool.Status] tells how each stands.
func (p *Pool) Start(ctx context.Context, specs []*Spec) error {
	p.apply.Lock()
	defer p.apply.Unlock()
	var units []*unit
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errClosed
	}
	for _, s := range specs {
		u := newUnit(p, s.Clone())
		u.retryAt = p.now()
		p.units[u.id] = u
		units = append(units, u)
	}
	p.mu.Unlock()
	for _, u := range units {
		go u.run()
	}
	for _, u := range units {
		u.settled(ctx)
	}
	return ctx.Err()
}

var errClosed = sdk.Errorf(codes.Unavailable, ReasonUnavailable, "the plugin host has stopped")

// Action is what a change does to one plugin.
type Action string

// Actions of a change.
const (
	ActionStart     Action = "start"
	ActionRestart   Action = "restart"
	ActionStop      Action = "stop"
	ActionUnchanged Action = "unchanged"
)

// Change is a prepared change of the set of plugins: the new generations run
// and wait. Call Commit or Discard, once; until then no other change is
// prepared.
type Change struct {
	pool     *Pool
	Actions  map[string]Action
	prepared map[string]*generation
	specs    map[string]*Spec
}

// Plan says what a change to specs would do, and does nothing.
func (p *Pool) Plan(specs []*Spec) map[string]Action {
	p.mu.RLock()
	defer p.mu.RUnlock()
	actions := make(map[string]Action)
	for id := range p.units {
		actions[id] = ActionStop
	}
	for _, s := range specs {
		u, ok := p.units[s.ID()]
		switch {
		case !ok:
			actions[s.ID()] = ActionStart
		case u.spec.Load().identity() == s.identity():
			actions[s.ID()] = ActionUnchanged
		default:
			actions[s.ID()] = ActionRestart
		}
	}
	return actions
}

// prepareLimit bounds how many generations start at once.
const prepareLimit = 4

// Prepare brings up a generation of every spec that is new or changed, beside
// what runs. When one fails all are discarded, nothing has changed, and the
// error joins a [*PrepareError] for each that failed.
func (p *Pool) Prepare(ctx context.Context, specs []*Spec) (*Change, error) {
	p.apply.Lock()
	if p.ctx.Err() != nil {
		p.apply.Unlock()
		return nil, errClosed
	}
	c := &Change{pool: p, Actions: p.Plan(specs), prepared: make(map[string]*generation), specs: make(map[string]*Spec)}
	var (
		mu     sync.Mutex
		failed []error
		group  errgroup.Group
	)
	group.SetLimit(prepareLimit)
	for _, s := range specs {
		if a := c.Actions[s.ID()]; a != ActionStart && a != ActionRestart {
			continue
		}
		spec := s.Clone()
		c.specs[spec.ID()] = spec
		group.Go(func() error {
			g, err := p.startGeneration(ctx, spec, "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, &PrepareError{ID: spec.ID(), Err: err})
				return nil // the others' verdicts count too
			}
			c.prepared[spec.ID()] = g
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		failed = append(failed, err)
	}
	if e := p.halted(); e != nil {
		failed = append(failed, e) // what was being started meanwhile
	}
	if len(failed) > 0 {
		c.Discard()
		slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(failed...)
	}
	return c, nil
}

// PrepareError says which plugin kept a change from being made.
type PrepareError struct {
	ID  string
	Err error
}

// Error returns the cause; it names the plugin already.
func (e *PrepareError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PrepareError) Unwrap() error { return e.Err }

// Commit puts the prepared generations in service, takes out what is no longer
// wanted, and retires the replaced ones in the background after their calls
// have drained.
func (c *Change) Commit() {
	p := c.pool
	defer p.apply.Unlock()
	for id, action := range c.Actions {
		switch action {
		case ActionStart:
			u := newUnit(p, c.specs[id])
			p.mu.Lock()
			p.units[id] = u
			p.mu.Unlock()
			u.install(c.prepared[id], c.specs[id])
			go u.run()
		case ActionRestart:
			u, err := p.unit(id)
			if err != nil { // cannot be: units change under apply only
				p.logger.Error("commit plugin change", "plugin", id, "error", err)
				continue
			}
			p.retire(u.install(c.prepared[id], c.specs[id]))
		case ActionStop:
			p.mu.Lock()
			u := p.units[id]
			delete(p.units, id)
			p.mu.Unlock()
			p.retire(u.remove())
		case ActionUnchanged:
		}
	}
}

// Discard stops the prepared generations; what runs stays as it is.
func (c *Change) Discard() {
	defer c.pool.apply.Unlock()
	var wg sync.WaitGroup
	for _, g := range c.prepared {
		wg.Go(func() { g.stop(g.spec.StopGrace) })
	}
	wg.Wait()
}

// retire drains and stops a replaced generation in the background.
func (p *Pool) retire(g *generation) {
	if g == nil {
		return
	}
	p.background.Go(func() {
		g.retire(g.spec.DrainTimeout)
		p.emit(Event{ID: g.spec.ID(), Generation: g.number, Phase: "retired"})
	})
}

// Restart replaces the plugin's process: one in service by a new generation,
// without a gap; one that has failed by a fresh start with a clean record. It
// returns when the new generation is in service; when that fails, what was in
// service still is.
func (p *Pool) Restart(ctx context.Context, id string) error {
	p.apply.Lock()
	defer p.apply.Unlock()
	u, err := p.unit(id)
	if err != nil {
		return err
	}
	if err := p.stillLocked(u.spec.Load()); err != nil {
		return err
	}
	if u.retryNow() {
		if u.settled(ctx) != StateReady {
			if e := u.Err(); e != nil {
				return e
			}
			return ctx.Err()
		}
		return nil
	}
	spec := u.spec.Load()
	g, err := p.startGeneration(ctx, spec, "")
	if err != nil {
		return err
	}
	p.retire(u.install(g, spec))
	return nil
}

// stillLocked returns an error unless the lock file has the plugin as it was taken
// into service.
func (p *Pool) stillLocked(spec *Spec) error {
	if p.locked == nil {
		return nil
	}
	hash, err := p.locked(spec.ID())
	switch {
	case err != nil:
		return err
	case hash == "":
		return notLocked(spec)
	case hash != spec.Hash:
		return failf(ReasonChecksum, "the lock file says that plugin %s is %s; in service is %s", spec.ID(), hash, spec.Hash).
			WithRemedy("run `sop plugin lock` and `sop reload` if %s is the program you mean; if you did not change the lock file, find out who did", spec.Command)
	}
	return nil
}

// Describe starts the program of spec far enough to learn what it is, and stops
// it again. It is how the lock file is written: spec.Hash is what the caller
// trusts.
func (p *Pool) Describe(ctx context.Context, spec *Spec) (*Description, error) {
	g, err := p.startGeneration(ctx, spec, PhaseDescribing)
	if err != nil {
		return nil, err
	}
	defer g.stop(spec.StopGrace)
	return &Description{DescribeResponse: g.described}, nil
}

// Conn returns a connection to the plugin with that id, "kind.name". It need
// not exist yet: calls fail until it does.
func (p *Pool) Conn(id string) *Conn {
	return &Conn{id: id, find: func() (lane, error) {
		u, err := p.unit(id)
		if err != nil {
			return nil, err
		}
		return u, nil
	}}
}

func (p *Pool) unit(id string) (*unit, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	u, ok := p.units[id]
	if !ok {
		return nil, sdk.Errorf(codes.NotFound, ReasonUnknown, "there is no plugin %q", id).
			WithRemedy("`sop plugin list` names the configured plugins")
	}
	return u, nil
}

// Close stops all plugins, each within its grace, and waits for them. Nothing
// of theirs is left when it returns.
func (p *Pool) Close() error {
	p.apply.Lock()
	defer p.apply.Unlock()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	units := p.units
	p.units = make(map[string]*unit)
	p.mu.Unlock()
	p.cancel()
	for _, u := range units {
		g := u.remove()
		if g == nil {
			continue
		}
		p.background.Go(func() {
			g.retire(0)
			p.emit(Event{ID: g.spec.ID(), Generation: g.number, Phase: "stopped"})
		})
	}
	p.background.Wait()
	p.starter.launcher.Stop()
	return errors.Join(p.starter.cgroups.Close(), p.starter.runDir.close())
}
