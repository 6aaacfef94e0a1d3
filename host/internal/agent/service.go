package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/secret"
)

// Publisher takes the package's event, [Changed]. It must not block; *event.Bus
// is one.
type Publisher interface {
	Publish(event any)
}

// Changed says, after the commit, what happened to an agent.
type Changed struct{ Change Change }

// Options say how a Service works. The zero value of each but Key is fine.
type Options struct {
	Key       HostKey
	RootFile  string           // where the key of [Root] lies; empty: nowhere, and there is no root
	Publisher Publisher        // nil: nobody is told
	Now       func() time.Time // nil: time.Now; it should not go back
}

// Service enrolls agents and tells whose key is presented. It decides nothing
// about permission: nexus has done so. All methods are safe for concurrent use.
// It is the only writer of its store: another host on the same database would
// not see in its memory what this one revokes.
type Service struct {
	store Store
	opt   Options
	memory
}

// NewService returns a Service of what is in the store.
func NewService(ctx context.Context, store Store, opt Options) (*Service, error) {
	if !opt.Key.Valid() {
		return nil, errors.New("agent service: no key")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	ends, err := store.Ends(ctx)
	if err != nil {
		return nil, err
	}
	s := &Service{store: store, opt: opt, memory: memory{
		keys: make(map[string]*Agent), ends: make(map[string]End), used: make(map[string]time.Time),
	}}
	for _, e := range ends {
		s.ends[e.Name] = e
	}
	return s, nil
}

// update runs one transaction that changes one agent, and brings the memory up
// to date after the commit. The time that fn is given is taken inside of it.
func (s *Service) update(ctx context.Context, fn func(tx Tx, now time.Time) (*Agent, Change, error)) (*Agent, error) {
	var done *Agent
	var change Change
	err := s.store.Update(ctx, func(tx Tx) (err error) {
		if done, change, err = fn(tx, s.opt.Now().UTC()); err != nil {
			return err
		}
		done.Version++
		return tx.Put(ctx, done, change)
	})
	if err != nil {
		if done != nil {
			s.drop(done) // the commit may have happened
		}
		return nil, err
	}
	s.wrote(done)
	if s.opt.Publisher != nil {
		s.opt.Publisher.Publish(Changed{change})
	}
	return done, nil
}

// maxCached is how many keys are kept in memory.
const maxCached = 20_000

// memory holds agents by the accessors of their keys, so that a call reads no
// database. What a writer has committed is there before the writer is answered,
// and what a reader loaded before that is not put in its place. An agent in it
// is never changed, only replaced.
type memory struct {
	mu     sync.RWMutex
	writes uint64 // how many were told of
	keys   map[string]*Agent
	ends   map[string]End       // by name; of all that have one
	used   map[string]time.Time // by name; not yet in the store
}

// get returns the agent, or nil and what load is to be given.
func (m *memory) get(accessor string) (*Agent, uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.keys[accessor], m.writes
}

// load puts in what was read after get, unless something was written since.
func (m *memory) load(a *Agent, writes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writes == writes {
		m.put(a)
	}
}

// wrote puts in what was committed.
func (m *memory) wrote(a *Agent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	m.ending(a)
	m.put(a)
}

// drop forgets an agent of which is not known what was committed. One that may
// have been revoked counts as revoked by whatever its name is proven, until it
// is revoked again or the host starts anew: its keys are read from the store.
func (m *memory) drop(a *Agent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if a.State == StateRevoked {
		m.ending(a)
	}
	for _, k := range a.Keys {
		delete(m.keys, k.Accessor)
	}
}

// ending takes note of when an agent ends. What came later stays.
func (m *memory) ending(a *Agent) {
	end, ends := a.end()
	switch old, known := m.ends[a.Name]; {
	case known && old.Version > a.Version:
	case ends:
		m.ends[a.Name] = end
	default:
		delete(m.ends, a.Name)
	}
}

// put makes room by dropping any one.
func (m *memory) put(a *Agent) {
	for _, k := range a.Keys {
		old := m.keys[k.Accessor]
		if old != nil && old.Version > a.Version {
			continue
		}
		if old == nil && len(m.keys) >= maxCached {
			for other := range m.keys {
				delete(m.keys, other)
				break
			}
		}
		m.keys[k.Accessor] = a
	}
}

// newKey makes a key, and what is kept of it.
func (s *Service) newKey(now time.Time) (Secret, Key, error) {
	k, err := secret.New(Prefix)
	if err != nil {
		return Secret{}, Key{}, err
	}
	return k, s.kept(k, now), nil
}

func (s *Service) kept(k Secret, now time.Time) Key {
	return Key{Accessor: k.Accessor(), Hash: s.opt.Key.Hash(purpose, k), CreatedAt: now}
}
