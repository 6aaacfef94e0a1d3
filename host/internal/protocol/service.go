package protocol

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Grants give tokens out to peers. The secrets go to the plugin; end takes the
// token back.
type Grants interface {
	// Test is for one run of a self-test; a use of it has been taken.
	Test(ctx context.Context, protocol, operation string) (secret string, end func(), err error)
	// Service is what a peer works under while it is in service, for life; 0: for
	// good. Another is asked for before that is over.
	Service(ctx context.Context, protocol string) (secret string, life time.Duration, end func(), err error)
	// Call is what a peer works under that calls others while it serves a call.
	Call(ctx context.Context, protocol string, operations []string, life time.Duration) (secret, accessor string, end func(), err error)
}

// Maintenance is told which subsystem fails and which is healthy again.
type Maintenance interface {
	File(ctx context.Context, subsystem, description, remedy, severity string) error
	Healthy(ctx context.Context, subsystem string) error
}

// Components are what the host supervises.
type Components interface {
	// Need returns when a component is ready; it stays so until release is called. by
	// is who needs it.
	Need(ctx context.Context, name, by string) (release func(), err error)
	// Gone says why a component is not there and does not come by waiting; nil: it is,
	// or may.
	Gone(name string) error
}

// Changed says that a protocol stands differently.
type Changed struct {
	At       time.Time
	Protocol string
	From, To State
	By, Why  string
}

// Options configure a service. Fill in what does not say otherwise.
type Options struct {
	// Client speaks to the plugin of a protocol, whichever generation serves.
	Client func(name string) pluginv1.ProtocolClient
	// Generation is the number of the generation in service, 0 for none.
	Generation func(name string) int
	Grants     Grants
	// Maintenance and Components may be nil.
	Maintenance Maintenance
	Components  Components
	// OnChange must not block; nil is fine.
	OnChange func(Changed)
	// Snapshots is a directory for payloads; empty: none are kept.
	Snapshots string
	Logger    hclog.Logger
}

// Service is all protocols. It is safe for concurrent use.
type Service struct {
	opt    Options
	shots  *snapshots
	live   liveCalls
	ctx    context.Context //nolint:containedctx // the life of the service; Close ends it
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.RWMutex
	peers   map[string]*peer
	closing bool
}

// NewService returns a service of no protocols; whoever makes it closes it.
func NewService(opt Options) (*Service, error) {
	if opt.Logger == nil {
		opt.Logger = hclog.NewNullLogger()
	}
	shots, err := newSnapshots(opt.Snapshots)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{opt: opt, shots: shots, ctx: ctx, cancel: cancel, peers: make(map[string]*peer)}
	s.wg.Go(func() { s.keepSnapshots(ctx) })
	return s, nil
}

// Close takes every protocol out of service, each within its time for draining,
// and ends what the service does by itself. Calls are turned away from then on.
func (s *Service) Close() error {
	s.mu.Lock()
	peers := s.peers
	s.peers, s.closing = make(map[string]*peer), true
	s.mu.Unlock()
	for len(peers) > 0 {
		var ending sync.WaitGroup
		for _, p := range leaves(peers) {
			delete(peers, p.name)
			ending.Go(p.remove)
		}
		ending.Wait()
	}
	s.cancel()
	s.wg.Wait()
	return s.shots.close()
}

// leaves are the peers that no other of them depends on; where they depend on each
// other in a circle, all.
func leaves(peers map[string]*peer) []*peer {
	needed := make(map[string]bool)
	for _, p := range peers {
		for _, name := range p.set.Load().DependsOn {
			needed[name] = true
		}
	}
	var out []*peer
	for name, p := range peers {
		if !needed[name] {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return slices.Collect(maps.Values(peers))
	}
	return out
}

// Apply takes over what is configured: it adds, changes and removes protocols,
// and returns at once. How they come into service shows in List.
func (s *Service) Apply(all []Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	named := make(map[string]bool)
	for i := range all {
		set := all[i]
		named[set.Name] = true
		if p := s.peers[set.Name]; p != nil {
			p.apply(&set)
			continue
		}
		p := newPeer(s, &set)
		s.peers[set.Name] = p
		p.ended.Go(func() { p.run(p.ctx) })
	}
	for name, p := range s.peers {
		if !named[name] {
			delete(s.peers, name)
			s.wg.Go(p.remove)
		}
	}
}

func (s *Service) peer(name string) (*peer, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.peers[name]
	switch {
	case p != nil:
		return p, nil
	case s.closing:
		return nil, stopped()
	}
	return nil, unknown(name)
}

// Sandboxed says whether all that an operation does stays in a sandbox, as the
// configuration has it.
func (s *Service) Sandboxed(name, operation string) bool {
	p, err := s.peer(name)
	return err == nil && p.set.Load().sandboxed(operation)
}

// Admit is called with every generation of a protocol's plugin, before it is put
// in service. One that takes over from another that serves is taken into its
// mode first, tested; when that fails it is refused, and the other goes on.
func (s *Service) Admit(ctx context.Context, name string, generation int, client pluginv1.ProtocolClient) error {
	p, err := s.peer(name)
	if err != nil {
		return nil //nolint:nilerr // nothing is expected of it yet
	}
	return p.admit(ctx, generation, client)
}

// Lost is called when the generation in service has ended by itself.
func (s *Service) Lost(name string) {
	if p, err := s.peer(name); err == nil {
		p.lost()
	}
}

// ComponentChanged is called when a component stands differently. It does not
// block, and calls nobody.
func (s *Service) ComponentChanged(name string) {
	s.lookAgain(func(set *Settings) bool { return slices.Contains(set.Components, name) })
}

// lookAgain has those peers look again at how they stand that it is about.
func (s *Service) lookAgain(about func(*Settings) bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.peers {
		if about(p.set.Load()) {
			p.nudge()
		}
	}
}

// Activate takes a protocol into service, in a mode, or as it is configured where
// none is named. It returns when that is done, or has failed once.
func (s *Service) Activate(ctx context.Context, name string, mode Mode, by string) (*Status, error) {
	p, err := s.peer(name)
	if err != nil {
		return nil, err
	}
	if err := p.activate(ctx, mode, by); err != nil {
		return nil, err
	}
	return p.status(ctx, true), nil
}

// Deactivate takes a protocol out of service after its calls have ended. One
// that others need is not taken out.
func (s *Service) Deactivate(ctx context.Context, name, by, why string) (*Status, error) {
	p, err := s.peer(name)
	if err != nil {
		return nil, err
	}
	if err := s.CheckDeactivate(name); err != nil {
		return nil, err
	}
	if err := p.deactivate(ctx, by, why); err != nil {
		return nil, err
	}
	return p.status(ctx, true), nil
}

// CheckDeactivate says whether Deactivate would be refused.
func (s *Service) CheckDeactivate(name string) error {
	if _, err := s.peer(name); err != nil {
		return err
	}
	if users := s.users(name); len(users) > 0 {
		return inUse(name, users)
	}
	return nil
}

// CheckActivate says whether there is such a protocol to be activated.
func (s *Service) CheckActivate(name string) error {
	_, err := s.peer(name)
	return err
}

// users are the protocols in service that depend on one.
func (s *Service) users(name string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var users []string
	for _, p := range s.peers {
		if slices.Contains(p.set.Load().DependsOn, name) && p.wanted() != Inactive {
			users = append(users, p.name)
		}
	}
	slices.Sort(users)
	return users
}

// List returns how all protocols stand, by name. Each plugin is asked, and has
// statusTimeout to answer.
func (s *Service) List(ctx context.Context) []*Status {
	peers := s.sorted()
	all := make([]*Status, len(peers))
	var asking sync.WaitGroup
	for i, p := range peers {
		asking.Go(func() { all[i] = p.status(ctx, true) })
	}
	asking.Wait()
	return all
}

// Standings returns how all protocols stand, by name, as far as the host knows:
// no plugin is asked, and so there is nothing to wait for.
func (s *Service) Standings() []*Status {
	peers := s.sorted()
	all := make([]*Status, len(peers))
	for i, p := range peers {
		all[i] = p.status(context.Background(), false)
	}
	return all
}

// sorted returns the peers by name.
func (s *Service) sorted() []*peer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.peers), func(a, b *peer) int { return cmp.Compare(a.name, b.name) })
}

// Problems says which protocols that should be in service are not, one sentence
// each.
func (s *Service) Problems() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for _, p := range s.peers {
		if text := p.problem(); text != "" {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// isEnd says whether an error is that of a context.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
