package api

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/audit"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// TestRoomForOthers lets sources take all the connections that they get, one after
// the other.
func TestRoomForOthers(t *testing.T) {
	meter := &tally{}
	e := newEntrance(waySocket, func() int { return 16 }, &observer{Observers{Meter: meter}}, hclog.NewNullLogger())
	take := func(source string) (n int) {
		for e.enter(source) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		source string
		want   int
	}{{"uid:1", 8}, {"uid:2", 4}, {"uid:1", 0}, {"uid:3", 2}, {"uid:4", 1}, {"uid:5", 1}, {"uid:6", 0}} {
		if n := take(tt.source); n != tt.want {
			t.Errorf("%s got %d connections, want %d", tt.source, n, tt.want)
		}
	}
	for range 8 {
		e.leave("uid:1")
	}
	if n := take("uid:6"); n != 4 {
		t.Errorf("of the eight that are free again another got %d, want 4", n)
	}
	for source, n := range map[string]int{"uid:2": 4, "uid:3": 2, "uid:4": 1, "uid:5": 1, "uid:6": 4} {
		for range n {
			e.leave(source)
		}
	}
	if e.open != 0 || len(e.sources) != 0 {
		t.Errorf("%d connections are counted, and sources %v", e.open, e.sources)
	}
	if opened, closed := meter.ways["socket opened"], meter.ways["socket closed"]; opened != 20 || closed != 20 || meter.ways["socket refused"] != 8 {
		t.Errorf("counted %v", meter.ways)
	}
}

// TestRefusedConnectionsAreReported counts reports of a flood: one at its begin, and
// one after each while with the number of all since, also where none follows.
func TestRefusedConnectionsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var reports []string
		e := newEntrance(wayTCP, func() int { return 0 }, &observer{Observers{Fact: func(r audit.Record) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, r.Attributes["refused"])
		}}}, hclog.NewNullLogger())
		for range 25 {
			for range 4 {
				if e.enter("192.0.2.1") {
					t.Fatal("let in")
				}
			}
			<-time.After(reportEvery / 7)
		}
		<-time.After(reportEvery)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if got, want := fmt.Sprint(reports), "[1 31 28 28 12]"; got != want {
			t.Errorf("reported %s, want %s", got, want)
		}
	})
}

func shut(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestFloodOfTheNetwork takes all connections by TCP, and calls by the socket.
func TestFloodOfTheNetwork(t *testing.T) {
	s := newSite(t, limits(func(l *Limits) { l.MaxConnections = 8 }))
	flood, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	facts := make(chan audit.Record, 16)
	s.server.observer.Fact = func(r audit.Record) { facts <- r }
	bounded := s.server.tcp.of(flood)
	accepted := make(chan net.Conn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := bounded.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	var last net.Conn
	for range 16 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", flood.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, conn)
		last = conn
	}
	if n, err := last.Read(make([]byte, 1)); err == nil {
		t.Errorf("the last connection was sent %d bytes", n)
	}
	if _, err := s.gaps().ListGaps(t.Context(), connect.NewRequest(&apiv1.ListGapsRequest{})); err != nil {
		t.Errorf("by the socket: %v", err)
	}
	shut(t, flood)
	<-done
	if len(accepted) != 4 {
		t.Errorf("%d of 16 connections were let in, want half of 8", len(accepted))
	}
	for len(accepted) > 0 {
		shut(t, <-accepted)
	}
	r := <-facts
	if r.Action != "access.limit" || r.Reason != "TOO_MANY_CONNECTIONS" || r.Attributes["way"] != wayTCP || r.Attributes["source"] != "127.0.0.1" {
		t.Errorf("recorded %+v", r)
	}
}
