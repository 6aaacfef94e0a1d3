package startup

import (
	"net"
	"sync"
	"time"
)

// socketEvery is how often is looked whether the socket is still there.
const socketEvery = 5 * time.Second

// doorstep serves the API on the unix socket. A socket that is removed under the host
// is made again: nobody could reach the host any more, not even to stop it.
type doorstep struct {
	path  string
	serve func(net.Listener) error
	again func() (net.Listener, error) // makes the socket anew
	told  func(error)                  // is told what came of that

	mu       sync.Mutex
	stopping bool
}

// run serves on l until the server is shut down, or fails.
func (d *doorstep) run(l net.Listener, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	ended := d.begin(l)
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			next := d.replace()
			if next == nil {
				continue
			}
			_ = l.Close() // nobody can reach it, and serving on it ends
			l, ended = next, d.begin(next)
		}
	}
}

func (d *doorstep) begin(l net.Listener) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- d.serve(l) }()
	return ended
}

// replace makes the socket anew if it is gone, and returns nil otherwise.
func (d *doorstep) replace() net.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping || !isGone(d.path) {
		return nil
	}
	l, err := d.again()
	if d.told(err); err != nil {
		return nil
	}
	return l
}

// stop lets the socket be removed for good. The server is shut down after it.
func (d *doorstep) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = true
}
