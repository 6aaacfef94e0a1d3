package token

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
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

func TestGuard(t *testing.T) {
	g, now := newGuard(), start
	for range freeFailures {
		g.failed("a", now)
	}
	if err := g.refuse("a", now); err != nil {
		t.Fatalf("refused too early: %v", err)
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		want := time.Duration(seconds) * time.Second
		g.failed("a", now)
		e := sdk.FromError(g.refuse("a", now))
		if e == nil || e.Code != codes.ResourceExhausted || !e.Retryable || e.Metadata["retry_after"] != want.String() {
			t.Fatalf("want %s: %+v", want, e)
		}
		if err := g.refuse("a", now.Add(want)); err != nil {
			t.Fatalf("still refused: %v", err)
		}
	}
	if err := g.refuse("b", now); err != nil {
		t.Errorf("another source: %v", err)
	}
	now = now.Add(maxFailures * forgiveAfter)
	g.failed("a", now)
	if err := g.refuse("a", now); err != nil {
		t.Errorf("not forgiven: %v", err)
	}
}

func TestGuardIsBounded(t *testing.T) {
	g, now := newGuard(), start
	for range freeFailures + 3 {
		g.failed("a", now)
	}
	for i := range 3 * maxSources {
		g.failed(fmt.Sprint(i), now)
	}
	if len(g.sources) > maxSources {
		t.Errorf("%d sources", len(g.sources))
	}
	if g.refuse("a", now) == nil {
		t.Error("a source was forgotten because others came")
	}
	if g.refuse("another", now) == nil {
		t.Error("sources for whom there is no room are not slowed down")
	}
	g.failed("b", now.Add(24*time.Hour))
	if len(g.sources) > 2 {
		t.Errorf("%d sources are kept though all is forgiven", len(g.sources))
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
