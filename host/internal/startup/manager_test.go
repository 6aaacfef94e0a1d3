package startup

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The service manager hears that the host lives while its main loop turns, and while
// that reloads, and no more once the loop hangs.
func TestWatchdogStarvesWithTheMainLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		loop := mainLoop{asked: make(chan struct{})}
		hang, release, reload := make(chan struct{}), make(chan struct{}), make(chan time.Duration)
		go func() { // as [host.reside] does
			for {
				select {
				case <-ctx.Done():
					return
				case <-loop.asked:
				case d := <-reload:
					loop.reload(func() { time.Sleep(d) })
				case <-hang:
					<-release
				}
			}
		}()
		var fed, wrong atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			feedWhile(ctx, every, func(ctx context.Context, within time.Duration) error {
				ctx, cancel := context.WithTimeout(ctx, within)
				defer cancel()
				return loop.turns(ctx)
			}, func() { fed.Add(1) }, func(error) { wrong.Add(1) })
		}()
		within := func(what string, d time.Duration, least, most int) {
			t.Helper()
			before := fed.Load()
			time.Sleep(d)
			synctest.Wait()
			if n := int(fed.Load() - before); n < least || n > most {
				t.Errorf("%s: fed %d times in %v", what, n, d)
			}
		}
		within("it turns", 10*every, 10, 11)
		reload <- 20 * every
		within("it reloads", 20*every, 19, 21)
		if n := wrong.Load(); n != 0 {
			t.Errorf("%d complaints of a loop that turns", n)
		}
		reload <- 2 * longestReload
		within("a reload takes long", longestReload, int(longestReload/every)-1, int(longestReload/every)+1)
		within("a reload hangs", longestReload-every, 0, 1)
		time.Sleep(2 * every)
		within("it turns again", 10*every, 10, 11)
		hang <- struct{}{}
		before := wrong.Load()
		within("it hangs", 60*every, 0, 1)
		if wrong.Load() == before {
			t.Error("nobody was told that it hangs")
		}
		close(release)
		within("it turns again", 10*every, 9, 11)
		cancel()
		<-done
	})
}

// A loop that hangs is named.
func TestMainLoopHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	loop := mainLoop{asked: make(chan struct{})}
	if err := loop.turns(ctx); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
