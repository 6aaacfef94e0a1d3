package token

import (
	"fmt"
	"testing"
	"time"
)

func TestClockNeverGoesBack(t *testing.T) {
	wall := start
	c := newClock(func() time.Time { return wall }, start.Add(time.Hour)) // the mark is ahead of the system's clock
	for _, step := range []struct{ by, want time.Duration }{
		{0, time.Hour},
		{time.Minute, time.Hour + time.Minute},
		{-24 * time.Hour, time.Hour + time.Minute},
		{time.Minute, time.Hour + 2*time.Minute}, // it goes on at the pace of the clock
		{48 * time.Hour, 49*time.Hour + 2*time.Minute},
	} {
		wall = wall.Add(step.by)
		if got := c.now().Sub(start); got != step.want {
			t.Errorf("after %s: %s, want %s", step.by, got, step.want)
		}
	}
}

func TestCacheKeepsTheLatest(t *testing.T) {
	c := newCache(1)
	old, revoked := &Token{Accessor: "a", Version: 1}, &Token{Accessor: "a", Version: 2, State: StateRevoked}
	_, writes := c.get("a")
	c.wrote(revoked) // while a reader has read the old one
	c.load(old, writes)
	c.wrote(old)
	if got, _ := c.get("a"); got != revoked {
		t.Errorf("got %+v", got)
	}
	_, writes = c.get("a")
	c.drop("a")
	c.load(old, writes)
	if got, _ := c.get("a"); got != nil {
		t.Errorf("got %+v", got)
	}
	for i := range 1000 {
		c.wrote(&Token{Accessor: fmt.Sprint(i)})
	}
	for i := range c.shards {
		if n := len(c.shards[i].tokens); n > 1 {
			t.Errorf("%d tokens in a shard for one", n)
		}
	}
}
