package token

import (
	"hash/maphash"
	"sync"
)

// cache holds tokens in memory, by accessor, so that a validation reads no
// database. What a writer has committed is there before the writer is answered,
// and what a reader loaded before that is not put in its place. A cached token
// is never changed, only replaced.
type cache struct {
	seed   maphash.Seed
	most   int // of one shard
	shards [64]shard
}

type shard struct {
	mu     sync.RWMutex
	writes uint64 // how many were told of
	tokens map[string]*Token
}

func newCache(most int) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	c.most = max(1, most/len(c.shards))
	for i := range c.shards {
		c.shards[i].tokens = make(map[string]*Token)
	}
	return c
}

func (c *cache) shard(accessor string) *shard {
	return &c.shards[maphash.String(c.seed, accessor)%uint64(len(c.shards))]
}

// get returns the token, or nil and what load is to be given.
func (c *cache) get(accessor string) (*Token, uint64) {
	s := c.shard(accessor)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tokens[accessor], s.writes
}

// load puts in what was read after get, unless something was written since.
func (c *cache) load(t *Token, writes uint64) {
	s := c.shard(t.Accessor)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes == writes {
		s.put(t, c.most)
	}
}

// wrote puts in what was committed.
func (c *cache) wrote(tokens ...*Token) {
	for _, t := range tokens {
		s := c.shard(t.Accessor)
		s.mu.Lock()
		s.writes++
		if old := s.tokens[t.Accessor]; old == nil || old.Version < t.Version {
			s.put(t, c.most)
		}
		s.mu.Unlock()
	}
}

// drop forgets a token of which is not known what was committed.
func (c *cache) drop(accessor string) {
	s := c.shard(accessor)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	delete(s.tokens, accessor)
}

// put makes room by dropping any one.
func (s *shard) put(t *Token, most int) {
	if len(s.tokens) >= most && s.tokens[t.Accessor] == nil {
		for other := range s.tokens {
			delete(s.tokens, other)
			break
		}
	}
	s.tokens[t.Accessor] = t
}
