package ship

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
)

// Spec says where to, and how.
type Spec struct {
	Mirror    bool   // records; otherwise checkpoints
	Kind      string // file, syslog or http
	Target    string // a path, an address or a URL
	Shown     string // the target as it is shown
	Format    string // of a mirror to syslog: cef or json
	HeaderEnv map[string]string
	CAFile    string
	MaxSize   int64 // of a mirror's file, in bytes
	Files     int   // how many finished files of a mirror are kept
	// Version changes when anything of this does.
	Version string
}

// name tells carriers apart, and names the cursor.
func (s *Spec) name() string {
	role := "checkpoint"
	if s.Mirror {
		role = "mirror"
	}
	return role + " " + s.Kind + " " + s.Shown
}

// Options say what to carry.
type Options struct {
	Trail audit.Trail
	// Record takes records about carriers; it must not block.
	Record func(audit.Record)
	// Warn is told what goes wrong. nil is fine.
	Warn func(name string, err error)
	// Hostname stands in syslog messages.
	Hostname string
}

// Set is the carriers of a host. Close ends them.
type Set struct {
	opt Options

	mu      sync.Mutex
	running map[string]*running
	closed  bool
}

type running struct {
	carrier *carrier
	version string
	cancel  context.CancelFunc
	done    chan struct{}
}

// New returns a set without carriers.
func New(opt Options) *Set {
	if opt.Warn == nil {
		opt.Warn = func(string, error) {}
	}
	return &Set{opt: opt, running: make(map[string]*running)}
}

// Apply starts carriers that are new, ends those that are gone, and replaces
// those that changed.
func (s *Set) Apply(specs []Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	want := make(map[string]*Spec, len(specs))
	for i := range specs {
		want[specs[i].name()] = &specs[i]
	}
	for name, r := range s.running {
		if spec := want[name]; spec == nil || spec.Version != r.version {
			r.end()
			delete(s.running, name)
		}
	}
	for name, spec := range want {
		if s.running[name] == nil {
			s.running[name] = s.start(name, spec)
		}
	}
}

func (s *Set) start(name string, spec *Spec) *running {
	ctx, cancel := context.WithCancel(context.Background())
	c := newCarrier(name, spec, &s.opt)
	r := &running{carrier: c, version: spec.Version, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		c.run(ctx)
	}()
	return r
}

// end waits for the carrier.
func (r *running) end() {
	r.cancel()
	<-r.done
}

// Signed tells the carriers of checkpoints about a new one. It does not block.
func (s *Set) Signed(c *audit.Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		if notes := r.carrier.notes; notes != nil {
			notes.put(c)
		}
	}
}

// Sinks says how each carrier is doing.
func (s *Set) Sinks(ctx context.Context) ([]audit.SinkStatus, error) {
	head, err := s.opt.Trail.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	last, err := s.opt.Trail.Store.LastCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]audit.SinkStatus, 0, len(s.running))
	for _, r := range s.running {
		end := head.Size
		if !r.carrier.spec.Mirror {
			end = 0
			if last != nil {
				end = last.Size
			}
		}
		status := r.carrier.status()
		status.Lag = end - min(status.Sent, end)
		out = append(out, status)
	}
	slices.SortFunc(out, func(x, y audit.SinkStatus) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// closeGrace is how long carriers may take to send the last at the end.
const closeGrace = 2 * time.Second

// Close lets carriers send what has come, for a moment, and ends them. It may
// be called again.
func (s *Set) Close() {
	deadline, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	sinks, err := s.Sinks(deadline)
	if err != nil {
		s.opt.Warn("close", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sink := range sinks {
		if r := s.running[sink.Name]; r != nil {
			r.carrier.settle(deadline, sink.Sent+sink.Lag)
		}
	}
	for _, r := range s.running {
		r.end()
	}
	clear(s.running)
}
