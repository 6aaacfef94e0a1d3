package event

// Stats is what has passed a bus.
type Stats struct {
	Published uint64 // events
	Lagged    uint64 // subscriptions that were cut off because they did not keep up
	// Subscriptions now, and how many events wait in the fullest of them.
	Subscriptions, Deepest int
}

// Stats returns what has passed until now.
func (b *Bus) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Subscriptions = len(b.subs)
	for sub := range b.subs {
		s.Deepest = max(s.Deepest, sub.waiting())
	}
	return s
}

func (s *Subscription[T]) waiting() int { return len(s.ch) }
