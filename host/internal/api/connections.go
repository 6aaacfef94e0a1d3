package api

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The ways to the host.
const (
	waySocket = "socket"
	wayTCP    = "tcp"
)

// entrance bounds the connections that are open by one way to the host. Each way
// has its own, so that no flood on the network keeps an operator from the socket.
// And no source gets another connection unless it has fewer than are free: alone it
// gets half of them, a second one half of the rest, and there is still one for
// whoever has none.
type entrance struct {
	way      string
	limit    func() int
	observer *observer
	logger   hclog.Logger

	mu      sync.Mutex
	sources map[string]int // connections that are open
	open    int
	refusals
}

func newEntrance(way string, limit func() int, o *observer, logger hclog.Logger) *entrance {
	return &entrance{way: way, limit: limit, observer: o, logger: logger, sources: make(map[string]int)}
}

// enter counts a connection, and is false where it is one too many.
func (e *entrance) enter(source string) bool {
	limit := e.limit()
	var tell func()
	e.mu.Lock()
	entered := e.sources[source] < limit-e.open
	if entered {
		e.sources[source]++
		e.open++
	} else {
		tell = e.count(&e.mu, time.Now(), func(n int) { e.tooMany(source, n) })
	}
	e.mu.Unlock()
	e.observer.connection(e.way, entered)
	if tell != nil {
		tell()
	}
	return entered
}

// tooMany tells of n refusals, the last of them of a source.
func (e *entrance) tooMany(source string, n int) {
	e.logger.Warn("there are too many connections: others are closed at once", "way", e.way, "closed", n, "source", source,
		"remedy", "find who holds them, or raise api.limits.max_connections")
	e.observer.tooMany(e.way, source, n)
}

// flush tells of the refusals that were not told of yet.
func (e *entrance) flush() {
	e.mu.Lock()
	rest := e.take(time.Now())
	e.mu.Unlock()
	if rest != nil {
		rest()
	}
}

// leave makes room.
func (e *entrance) leave(source string) {
	e.mu.Lock()
	if e.sources[source]--; e.sources[source] == 0 {
		delete(e.sources, source)
	}
	e.open--
	e.mu.Unlock()
	e.observer.connectionClosed(e.way)
}

// of returns l with its connections bounded.
func (e *entrance) of(l net.Listener) net.Listener { return &boundedListener{l, e} }

// boundedListener closes connections that are too many, at once: a caller is told
// rather than left waiting.
type boundedListener struct {
	net.Listener
	entrance *entrance
}

// Accept implements [net.Listener].
func (b *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := connectionFrom(conn)
		if b.entrance.enter(from.source) {
			return &boundedConn{Conn: conn, from: from, leave: sync.OnceFunc(func() { b.entrance.leave(from.source) })}, nil
		}
		_ = conn.Close() // nothing was sent
	}
}

// boundedConn makes room when it is closed.
type boundedConn struct {
	net.Conn
	from  connection
	leave func()
}

// Close implements [net.Conn].
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
