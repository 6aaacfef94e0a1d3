package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// pipes is a listener whose connections are within this process, so that time can
// be passed.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

// overPipes serves a handler with the bounds of the API and runs use with a client
// of it, over HTTP/1 and over HTTP/2.
func overPipes(t *testing.T, handler http.HandlerFunc, use func(*testing.T, *http.Client)) {
	t.Helper()
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				server := newHTTPServer(handler, hclog.NewNullLogger())
				done := make(chan error, 1)
				go func() { done <- server.Serve(l) }()
				var protocols http.Protocols
				protocols.SetHTTP1(version == "HTTP/1.1")
				protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
				transport := &http.Transport{DialContext: l.dial, Protocols: &protocols}
				use(t, &http.Client{Transport: transport})
				transport.CloseIdleConnections()
				_ = server.Close()
				<-done
			})
		})
	}
}

// long is longer than any deadline of a caller that does nothing wrong.
const long = 10 * (bodyTimeout + writeTimeout)

// A call that takes long is answered: only who does not read is cut off.
func TestLongCall(t *testing.T) {
	overPipes(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		time.Sleep(long) // of the bubble
		_, _ = io.WriteString(w, "done")
	}, func(t *testing.T, c *http.Client) {
		for range 2 { // the second on the connection of the first
			resp, err := c.Post("http://sop/", "text/plain", strings.NewReader("go"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(text) != "done" {
				t.Errorf("%q, %v", text, err)
			}
		}
	})
}

// A stream may be silent for as long as nothing happens.
func TestSilentStream(t *testing.T) {
	overPipes(t, func(w http.ResponseWriter, r *http.Request) {
		one := make([]byte, 1)
		if _, err := io.ReadFull(r.Body, one); err != nil { // not to the end, as streams read
			t.Error(err)
		}
		for _, word := range []string{"one ", "two ", "three"} {
			_, _ = io.WriteString(w, word)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(long) // of the bubble
		}
	}, func(t *testing.T, c *http.Client) {
		resp, err := c.Post("http://sop/", "text/plain", strings.NewReader("go"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(text) != "one two three" {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// Who does not read what is sent is cut off, before the first flush and after it.
func TestReaderThatDoesNotRead(t *testing.T) {
	for name, flush := range map[string]bool{"at once": false, "after a while": true} {
		t.Run(name, func(t *testing.T) {
			var failed chan error // of the bubble
			overPipes(t, func(w http.ResponseWriter, r *http.Request) {
				if flush {
					_, _ = io.WriteString(w, "one")
					_ = http.NewResponseController(w).Flush()
					time.Sleep(long) // of the bubble
				}
				piece := make([]byte, 1<<20)
				var err error
				begin := time.Now()
				for range 64 {
					if _, err = w.Write(piece); err != nil {
						break
					}
				}
				if took := time.Since(begin); took > 2*writeTimeout {
					t.Errorf("it took %s", took)
				}
				failed <- err
			}, func(t *testing.T, c *http.Client) {
				failed = make(chan error, 1)
				resp, err := c.Get("http://sop/")
				if err != nil {
					t.Fatal(err)
				}
				if err := <-failed; err == nil {
					t.Error("64 MiB went to somebody who does not read")
				}
				_ = resp.Body.Close()
			})
		})
	}
}
