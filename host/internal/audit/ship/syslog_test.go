package ship

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/audit"
)

// large is a record whose text in JSON has more than so many bytes.
func large(bytes int) audit.Record {
	r := audit.Record{Actor: "a", Action: "x.y", Resource: "r", Outcome: audit.Success, Attributes: make(map[string]string)}
	for i := range min(bytes/2000+1, 31) { // a quotation mark is two bytes in JSON
		r.Attributes[fmt.Sprint("k", i)] = strings.Repeat(`"`, 1024)
	}
	for i := range 31 {
		if bytes > 62_000 { // long keys make up the rest
			r.Attributes[strings.Repeat(`"`, 100)+fmt.Sprint(i)] = strings.Repeat(`"`, 1024)
			delete(r.Attributes, fmt.Sprint("k", i))
		}
	}
	return r
}

// datagrams reads messages, one each.
func datagrams(t *testing.T, conn net.PacketConn) func() string {
	return func() string {
		t.Helper()
		buf := make([]byte, 1<<17)
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

// counted reads messages that have their length before them.
func counted(t *testing.T, l net.Listener) func() string {
	var in *bufio.Reader
	return func() string {
		t.Helper()
		if in == nil {
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			in = bufio.NewReader(conn)
		}
		head, err := in.ReadString(' ')
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSuffix(head, " "))
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(in, text); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// Records come in order over each kind of socket. What a datagram can hold comes
// as a whole; of what it cannot, all but the attributes.
func TestSyslogSockets(t *testing.T) {
	udp := func(t *testing.T) (string, func() string) {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return "udp://" + conn.LocalAddr().String(), datagrams(t, conn)
	}
	datagram := func(t *testing.T) (string, func() string) {
		path := filepath.Join(t.TempDir(), "log")
		conn, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return "unix://" + path, datagrams(t, conn)
	}
	stream := func(t *testing.T) (string, func() string) {
		path := filepath.Join(t.TempDir(), "log")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return "unix://" + path, counted(t, l)
	}
	for name, tt := range map[string]struct {
		listen func(t *testing.T) (string, func() string)
		whole  bool // even what is larger than any UDP datagram
	}{"udp": {udp, false}, "unix datagram": {datagram, true}, "unix stream": {stream, true}} {
		t.Run(name, func(t *testing.T) {
			target, next := tt.listen(t)
			s := newSite(t)
			records := []audit.Record{large(100), large(20_000), large(65_600), large(200)}
			if err := s.log.Append(t.Context(), records...); err != nil {
				t.Fatal(err)
			}
			s.set.Apply([]Spec{{Mirror: true, Kind: "syslog", Target: target, Shown: target, Format: "json"}})
			for i := range records {
				text := next()
				_, body, _ := strings.Cut(text, " record - ")
				if !strings.HasPrefix(text, "<110>1 ") || !strings.Contains(body, fmt.Sprintf(`"seq":%d,`, i+1)) || !strings.HasSuffix(body, `"}`) {
					t.Fatalf("message %d: %.300q", i+1, text)
				}
				short := strings.Contains(body, `"left_out":"31 attributes: too large for a datagram"`)
				if short != (i == 2 && !tt.whole) {
					t.Errorf("message %d of %d bytes: short %v", i+1, len(text), short)
				}
				if i == 1 && len(text) < 20_000 || i == 2 && tt.whole && len(text) < 65_508 {
					t.Errorf("message %d has only %d bytes", i+1, len(text))
				}
				if !short {
					for r, err := range audit.Parse(strings.NewReader(body + "\n")) {
						if err != nil || r.Seq != uint64(i+1) {
							t.Errorf("message %d does not read back: %v", i+1, err)
						}
					}
				}
			}
			s.set.Close()
		})
	}
}

// A checkpoint goes over HTTPS to whom a certificate of ca_file vouches for, and
// to nobody else.
func TestHTTPSWithOwnAuthority(t *testing.T) {
	got := make(chan string, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- string(body)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail here
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(ca, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	s := newSite(t)
	spec := Spec{Kind: "http", Target: server.URL, Shown: server.URL, CAFile: ca, Version: "1"}
	s.set.Apply([]Spec{spec})
	c := s.append(t, 3)
	if note := <-got; note != c.Note {
		t.Errorf("got %q", note)
	}
	for i, tt := range []struct {
		ca, text, want string
	}{
		{"", "", "certificate"},
		{ca, "nothing", "has no certificates"},
		{ca + ".gone", "", "no such file"},
	} {
		if tt.text != "" {
			write([]byte(tt.text))
		}
		spec.CAFile, spec.Version = tt.ca, fmt.Sprint("x", i)
		s.set.Apply([]Spec{spec})
		s.append(t, 1)
		r := <-s.told
		if r.Outcome != audit.Failure || !strings.Contains(r.Reason, tt.want) {
			t.Errorf("ca_file %q: told %+v", tt.ca, r)
		}
		sinks, err := s.set.Sinks(t.Context())
		if err != nil || len(sinks) != 1 || sinks[0].Remedy == "" {
			t.Errorf("%+v, %v", sinks, err)
		}
	}
	if len(got) != 0 {
		t.Errorf("%d checkpoints went to a server that nobody vouches for", len(got))
	}
	s.set.Close()
}
