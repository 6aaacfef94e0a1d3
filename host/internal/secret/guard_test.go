package secret

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func TestGuard(t *testing.T) {
	g, now := NewGuard(), start
	for range freeFailures {
		g.Failed("a", now)
	}
	if wait := g.Wait("a", now); wait > 0 {
		t.Fatalf("refused too early: %v", wait)
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		want := time.Duration(seconds) * time.Second
		g.Failed("a", now)
		if wait := g.Wait("a", now); wait != want {
			t.Fatalf("wait %s, want %s", wait, want)
		}
		if wait := g.Wait("a", now.Add(want)); wait > 0 {
			t.Fatalf("still refused: %v", wait)
		}
	}
	if wait := g.Wait("b", now); wait > 0 {
		t.Errorf("another source: %v", wait)
	}
	if g.Failed("a", now.Add(time.Hour)) != 1 { // the last of those before
		t.Error("who had to wait was not counted")
	}
	now = now.Add(maxFailures * forgiveAfter)
	g.Failed("a", now)
	if wait := g.Wait("a", now); wait > 0 {
		t.Errorf("not forgiven: %v", wait)
	}
}

func TestGuardIsBounded(t *testing.T) {
	g, now := NewGuard(), start
	for range freeFailures + 3 {
		g.Failed("a", now)
	}
	for i := range 3 * maxSources {
		g.Failed(fmt.Sprint(i), now)
	}
	if len(g.sources) > maxSources {
		t.Errorf("%d sources", len(g.sources))
	}
	if g.Wait("a", now) <= 0 {
		t.Error("a source was forgotten because others came")
	}
	if g.Wait("another", now) <= 0 {
		t.Error("sources for whom there is no room are not slowed down")
	}
	g.Failed("b", now.Add(24*time.Hour))
	if len(g.sources) > 2 {
		t.Errorf("%d sources are kept though all is forgiven", len(g.sources))
	}
}
