package api

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
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

	mu       sync.Mutex
	sources  map[string]int // connections that are open
	open     int
	refused  int // since the last report
	reported time.Time
}

func newEntrance(way string, limit func() int, o *observer) *entrance {
	return &entrance{way: way, limit: limit, observer: o, sources: make(map[string]int)}
}

// enter counts a connection, and is false where it is one too many. It says how many
// refusals to report now, if any.
func (e *entrance) enter(source string) (entered bool, refused int) {
	limit := e.limit()
	e.mu.Lock()
	if entered = e.sources[source] < limit-e.open; entered {
		e.sources[source]++
		e.open++
	} else if e.refused++; time.Since(e.reported) >= reportEvery {
		refused, e.refused, e.reported = e.refused, 0, time.Now()
	}
	e.mu.Unlock()
	e.observer.connection(e.way, entered)
	return entered, refused
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

// boundedListener closes connections that are too many, at once: a caller is told
// rather than left waiting.
type boundedListener struct {
	net.Listener
	entrance *entrance
	// report tells of connections that were closed, the last from a source. Nobody
	// waits for it but who waits for reports.
	report  func(way, source string, refused int)
	reports sync.WaitGroup
}

// Accept implements [net.Listener].
func (b *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := connectionFrom(conn)
		entered, refused := b.entrance.enter(from.source)
		if entered {
			return &boundedConn{Conn: conn, from: from, leave: sync.OnceFunc(func() { b.entrance.leave(from.source) })}, nil
		}
		_ = conn.Close() // nothing was sent
		if refused > 0 {
			b.reports.Go(func() { b.report(b.entrance.way, from.source, refused) })
		}
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

// reportTimeout is how long it may take to record what nobody waits for.
const reportTimeout = 10 * time.Second

// turnedAway tells the journal and the audit log of connections that were too many.
func (s *Server) turnedAway(way, source string, refused int) {
	s.logger.Warn("there are too many connections: others are closed at once", "way", way, "closed", refused, "source", source,
		"remedy", "find who holds them, or raise api.limits.max_connections")
	if s.limiter.audit == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	err := s.limiter.audit.Append(ctx, audit.Record{
		Actor: "unauthenticated", Action: "access.limit", Resource: "api", Outcome: audit.Denied, Reason: "TOO_MANY_CONNECTIONS",
		Attributes: map[string]string{"refused": itoa(refused), "source": source, "way": way},
	})
	if err != nil {
		s.logger.Warn("connections that were closed are not in the audit log", "error", err)
	}
}
