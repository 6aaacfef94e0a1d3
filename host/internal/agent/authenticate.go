package agent

import (
	"context"
	"time"
)

// Authenticate returns the agent whose key is presented, or why it is refused.
// It reads memory only, once the agent is there.
func (s *Service) Authenticate(ctx context.Context, text string) (*Agent, error) {
	k, err := ParseKey(text)
	if err != nil {
		return nil, err
	}
	a, err := s.find(ctx, k.Accessor())
	if err != nil {
		return nil, err
	}
	var kept *Key
	var hash []byte // of no key: an unknown accessor costs the same work
	if a != nil {
		if kept = a.key(k.Accessor()); kept != nil {
			hash = kept.Hash
		}
	}
	if !s.opt.Key.Proves(purpose, k, hash) {
		return nil, unknown()
	}
	now := s.opt.Now()
	switch {
	case a.State == StateRevoked:
		return nil, revoked(a.Name)
	case kept.ended(now):
		return nil, denial(ReasonRotated, "this key of agent %s was replaced", a.Name).WithRemedy("use the key that replaced it")
	case a.At(now) == StateExpired:
		return nil, expired(a.Name, a.ExpiresAt)
	}
	s.use(a.Name, now)
	return a, nil
}

// find returns the agent with a key from memory, or from the store and then
// from memory.
func (s *Service) find(ctx context.Context, accessor string) (*Agent, error) {
	a, writes := s.get(accessor)
	if a != nil {
		return a, nil
	}
	a, err := s.store.Find(ctx, accessor)
	if err != nil || a == nil {
		return nil, err
	}
	s.load(a, writes)
	return a, nil
}

// Live returns an error where the agent of a name has ended, for whoever was proven
// to have that name otherwise than by its key. It reads memory only.
func (s *Service) Live(who string) error {
	end, state := s.ended(who)
	switch state {
	case StateRevoked:
		return revoked(who)
	case StateExpired:
		return expired(who, end.At)
	default:
		return nil
	}
}

// Stands is the state of the agent of a name, active where none was enrolled under
// it. It reads memory only.
func (s *Service) Stands(who string) State {
	_, state := s.ended(who)
	return state
}

// ended returns the end of an agent, and its state now.
func (s *Service) ended(who string) (End, State) {
	s.mu.RLock()
	end, ends := s.ends[who]
	s.mu.RUnlock()
	switch {
	case !ends:
		return end, StateActive
	case end.Revoked:
		return end, StateRevoked
	case !s.opt.Now().Before(end.At):
		return end, StateExpired
	default:
		return end, StateActive
	}
}

// FlushEvery is how often a host should call [Service.Flush].
const FlushEvery = time.Minute

// use remembers when an agent was used, until Flush.
func (s *Service) use(who string, now time.Time) {
	s.mu.RLock()
	last, seen := s.used[who]
	s.mu.RUnlock()
	if seen && now.Sub(last) < time.Second {
		return // most calls: without the lock of writers
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[who] = now.UTC()
}

// recall brings up to date when an agent from the store was last used.
func (s *Service) recall(a *Agent) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if last := s.used[a.Name]; last.After(a.LastUsed) {
		a.LastUsed = last
	}
}

// Flush stores when agents were last used.
func (s *Service) Flush(ctx context.Context) error {
	s.mu.Lock()
	used := s.used
	s.used = make(map[string]time.Time)
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	err := s.store.Touch(ctx, used)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for who, at := range used {
			if at.After(s.used[who]) {
				s.used[who] = at
			}
		}
	}
	return err
}
