package component

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// Options configure a supervisor.
type Options struct {
	// Dir holds for each component the record of its process, its notify socket, and
	// its output where it survives the host. It outlives the host.
	Dir string
	// LogDir holds the output of each component, rotated.
	LogDir string
	Logger hclog.Logger
	// OnEvent is called for each step of each instance, from several goroutines and
	// with a component locked; it must not block and must not call the supervisor.
	// nil is fine.
	OnEvent func(Event)
	// Plugins are what components may depend on; nil: none is ever ready.
	Plugins Plugins
	// Halted says why nothing is to be started; nil when all may. A nil function
	// never objects.
	Halted func() error
	// SandboxLauncher finds the program that isolates, or says why it cannot be used.
	SandboxLauncher func() (string, error)
}

// Plugins are the plugins that components depend on, by id.
type Plugins interface {
	// AwaitService returns when the plugin is in service, or with the error of ctx.
	AwaitService(ctx context.Context, id string) error
	InService(id string) bool
}

// Event is a step in the life of a component.
type Event struct {
	Name     string
	Instance int
	Phase    Phase
	// After names what it waited for; set with PhaseQueued.
	After []string
	PID   int
	// Detail is one sentence; may be empty.
	Detail string
	// Err is set where something failed.
	Err error
}

// Phase is a step of an instance's life.
type Phase string

// The phases.
const (
	PhaseQueued    Phase = "queued"
	PhaseVerifying Phase = "verifying"
	PhaseStarting  Phase = "starting"
	PhaseWaiting   Phase = "waiting for readiness"
	PhaseReady     Phase = "ready"
	PhaseAdopted   Phase = "adopted"
	PhaseFailed    Phase = "failed"
	PhaseExited    Phase = "exited"
	PhaseUnready   Phase = "unready"
	PhaseStopping  Phase = "stopping"
	PhaseStopped   Phase = "stopped"
)

// Supervisor runs all configured components.
type Supervisor struct {
	opt      Options
	owner    string // tells the components of this data directory from those of another
	logger   hclog.Logger
	launcher *process.Launcher
	cgroups  *cgroup.Tree // nil until Start
	changed  event.Notice // a state has changed, or what may run has

	ctx    context.Context //nolint:containedctx // the supervisor's own life; Close ends it
	cancel context.CancelFunc
	apply  sync.Mutex // held from Prepare to Commit or Discard, by Start and by Close

	mu       sync.Mutex
	units    map[string]*unit
	closing  bool
	ending   map[string]<-chan struct{} // the last unit of a name that was removed
	retiring sync.WaitGroup             // units that were removed and have not ended yet
}

// New makes a supervisor without components. Nothing is looked for or touched
// before [Supervisor.Start].
func New(opt Options) (*Supervisor, error) {
	for _, dir := range []string{opt.Dir, opt.LogDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make component directory: %w", err)
		}
	}
	dir, err := filepath.EvalSymlinks(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolve component directory: %w", err)
	}
	opt.Dir = dir
	if opt.Logger == nil {
		opt.Logger = hclog.NewNullLogger()
	}
	if opt.Halted == nil {
		opt.Halted = func() error { return nil }
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Supervisor{
		opt: opt, owner: ownerOf(dir), logger: opt.Logger, launcher: process.NewLauncher(true),
		ctx: ctx, cancel: cancel, units: make(map[string]*unit), ending: make(map[string]<-chan struct{}),
	}, nil
}

// Start takes back or ends what an earlier host left, and begins with specs. It
// does not wait for them: [Supervisor.Settled] does.
func (s *Supervisor) Start(specs []*Spec) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	kept, err := s.recover(specs)
	if err != nil {
		return err
	}
	var started []*unit
	for _, spec := range specs {
		u, err := newUnit(s, spec.Clone())
		if err != nil {
			return err
		}
		u.found = kept[spec.Name]
		started = append(started, u)
	}
	s.mu.Lock()
	for _, u := range started {
		s.units[u.name] = u
	}
	s.mu.Unlock()
	for _, u := range started {
		go u.run()
	}
	return nil
}

// Settled waits until every component is ready, at rest or has failed once, or
// ctx is done.
func (s *Supervisor) Settled(ctx context.Context) error {
	for {
		changed := s.changed.Wait()
		settled := true
		for _, u := range s.all() {
			settled = settled && u.settled()
		}
		if settled {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Wake makes the components look again at what they depend on outside of them.
func (s *Supervisor) Wake() { s.changed.Tell() }

// all returns the units, in no order.
func (s *Supervisor) all() []*unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*unit, 0, len(s.units))
	for _, u := range s.units {
		out = append(out, u)
	}
	return out
}

// unit returns the one of that name, or nil.
func (s *Supervisor) unit(name string) *unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units[name]
}

func (s *Supervisor) emit(e Event) {
	if s.opt.OnEvent != nil {
		s.opt.OnEvent(e)
	}
}

// Close stops all components in the reverse order of their dependencies, each
// within its grace, those that would survive a killed host too. Nothing of theirs
// is left when it returns. It may be called twice.
func (s *Supervisor) Close() error {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	units := s.units
	s.mu.Unlock()
	s.retire(units)
	s.retiring.Wait()
	s.mu.Lock()
	s.units = make(map[string]*unit)
	s.mu.Unlock()
	s.cancel()
	s.launcher.Stop()
	if s.cgroups == nil {
		return nil
	}
	return s.cgroups.Close()
}

// retire stops units for good, each once those that depend on it have ended.
func (s *Supervisor) retire(units map[string]*unit) {
	s.mu.Lock()
	for name, u := range units {
		s.ending[name] = u.done
	}
	s.mu.Unlock()
	for _, u := range units {
		var before []<-chan struct{}
		for _, other := range units {
			if other.dependsOn(u.name) {
				before = append(before, other.done)
			}
		}
		s.retiring.Go(func() {
			for _, done := range before {
				<-done
			}
			u.remove()
			<-u.done
		})
	}
}

const (
	// killWait bounds the wait for the kernel to end a process after SIGKILL.
	killWait = 2 * time.Second
	// leftWait is how long what a component started may take to end after it has
	// ended unasked.
	leftWait = 0
)

var errClosed = errors.New("the host is stopping")
