package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func target(t testing.TB, text string) Target {
	t.Helper()
	out, err := ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// names answers for the tests' domain names, and notes what was connected to.
type world struct {
	mu      sync.Mutex
	lookups []string
	dials   []netip.AddrPort
	to      string // where every connection really goes
}

func (w *world) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups = append(w.lookups, host)
	switch host {
	case "public.example", "api.example":
		return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
	case "private.example":
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	case "mapped.example":
		return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, nil
	case "both.example":
		return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("93.184.216.35")}, nil
	}
	return nil, errors.New("no such host")
}

func (w *world) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dials = append(w.dials, addr)
	to := w.to
	w.mu.Unlock()
	if to == "" {
		return nil, errors.New("connection refused")
	}
	return new(net.Dialer).DialContext(ctx, "tcp", to)
}

// serve puts a proxy up on a socket and returns a dialer to it.
func serve(t testing.TB, rules *Rules, w *world) (*Proxy, func() net.Conn) {
	t.Helper()
	p, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	p.lookup, p.dial = w.lookup, w.dial
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p.Serve(listener)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, func() net.Conn {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			panic(err)
		}
		return conn
	}
}

// ask sends a request as it is written and returns the answer's code and text.
func ask(t *testing.T, conn net.Conn, request string) (int, string) {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if strings.HasPrefix(request, "CONNECT") && answer.StatusCode == http.StatusOK {
		return answer.StatusCode, ""
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func connectTo(where string) string {
	return "CONNECT " + where + " HTTP/1.1\r\nHost: " + where + "\r\n\r\n"
}

func TestDecisions(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host, r.URL.Path) }))
	defer echo.Close()
	rules := &Rules{
		Allow:        []Target{target(t, "public.example:443"), target(t, "public.example:80"), target(t, "private.example:80"), target(t, "mapped.example:80"), target(t, "both.example:80"), target(t, "10.9.9.9:80")},
		AllowPrivate: []Target{target(t, "private.example:81")},
	}
	for _, test := range []struct {
		request string
		code    int
		dialed  string // "" for nothing
	}{
		{connectTo("public.example:443"), 200, "93.184.216.34:443"},
		{connectTo("PUBLIC.example.:443"), 200, "93.184.216.34:443"},
		{connectTo("public.example:22"), 403, ""},
		{connectTo("evil.public.example:443"), 403, ""},
		{connectTo("public.example.evil:443"), 403, ""},
		{connectTo("93.184.216.34:443"), 403, ""},
		{connectTo("private.example:80"), 502, ""},
		{connectTo("private.example:81"), 200, "10.0.0.1:81"},
		{connectTo("mapped.example:80"), 502, ""},
		{connectTo("both.example:80"), 200, "93.184.216.35:80"},
		{connectTo("10.9.9.9:80"), 200, "10.9.9.9:80"},
		{"CONNECT public.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n", 200, "93.184.216.34:443"}, // the line counts
		{"CONNECT other.example:443 HTTP/1.1\r\nHost: public.example:443\r\n\r\n", 403, ""},
		{"GET http://public.example/x HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, "93.184.216.34:80"},
		{"GET http://public.example:80/x HTTP/1.1\r\nHost: public.example\r\n\r\n", 200, "93.184.216.34:80"},
		{"GET http://user@public.example/x HTTP/1.1\r\nHost: public.example\r\n\r\n", 403, ""},
		{"GET http://evil.example/x HTTP/1.1\r\nHost: public.example\r\n\r\n", 403, ""},
		{"GET https://public.example/x HTTP/1.1\r\nHost: public.example\r\n\r\n", 403, ""},
		{"GET /x HTTP/1.1\r\nHost: public.example\r\n\r\n", 403, ""},
		{"GET http://127.1/x HTTP/1.1\r\nHost: public.example\r\n\r\n", 403, ""},
		{"GET http://0x5db8d822/x HTTP/1.1\r\nHost: public.example\r\n\r\n", 403, ""},
	} {
		w := &world{to: echo.Listener.Addr().String()}
		p, dial := serve(t, rules, w)
		code, body := ask(t, dial(), test.request)
		var dialed string
		if len(w.dials) > 0 {
			dialed = w.dials[0].String()
		}
		if code != test.code || dialed != test.dialed || len(w.dials) > 1 || len(w.lookups) > 1 {
			t.Errorf("%q: %d %q, dialed %v, looked up %v", test.request, code, body, w.dials, w.lookups)
		}
		if got := p.Decisions(); len(got) != 1 || got[0].Count != 1 || got[0].Allowed != (test.code != 403) || (got[0].Why == "") != (test.code == 200) {
			t.Errorf("%q: %+v", test.request, got)
		}
		if test.code == 200 && strings.HasPrefix(test.request, "GET") && body != "hello public.example/x" {
			t.Errorf("%q: %q", test.request, body)
		}
	}
}

// A tunnel carries both ways and ends on both sides.
func TestTunnel(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d", len(body))
	}))
	defer server.Close()
	w := &world{to: server.Listener.Addr().String()}
	p, dial := serve(t, &Rules{Allow: []Target{target(t, "public.example:443")}}, w)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	transport := &http.Transport{
		Proxy:           func(*http.Request) (*url.URL, error) { return url.Parse("http://proxy") },
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return dial(), nil },
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"},
	}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Post("https://public.example/", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); string(body) != "1048576" {
		t.Errorf("%q", body)
	}
	if got := p.Decisions(); len(got) != 1 || !got[0].Allowed || got[0].Target != "public.example:443" {
		t.Errorf("%+v", got)
	}
}

// A credential is added on the host's side, over TLS, and whatever the sandbox
// has put in its place goes.
func TestCredential(t *testing.T) {
	const secret = "the-secret"
	seen := make(chan http.Header, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := &Rules{Credentials: []Credential{{Target: target(t, "api.example:443"), Header: "authorization", Prefix: "Bearer ", File: file, Variable: "API_KEY"}}}
	w := &world{to: server.Listener.Addr().String()}
	p, dial := serve(t, rules, w)
	p.roots = &tls.Config{InsecureSkipVerify: true} // the name on the test's certificate is another
	code, body := ask(t, dial(), "GET http://api.example:443/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+Placeholder+"\r\nX-Own: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Authorization: me\r\n\r\n")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	got := <-seen
	if !slices.Equal(got.Values("Authorization"), []string{"Bearer " + secret}) || got.Get("X-Own") != "1" || got.Get("X-Hop")+got.Get("Proxy-Authorization") != "" {
		t.Errorf("%v", got)
	}
	if code, body := ask(t, dial(), connectTo("api.example:443")); code != 403 || !strings.Contains(body, "http://api.example:443") {
		t.Errorf("a tunnel past the credential: %d %s", code, body)
	}
	if d := p.Decisions(); len(d) != 2 || !d[0].Credential && !d[1].Credential || strings.Contains(fmt.Sprint(d), secret) {
		t.Errorf("%+v", d)
	}
	if env := rules.Variables(3128); !slices.Contains(env, "API_KEY="+Placeholder) || strings.Contains(fmt.Sprint(env), secret) {
		t.Errorf("%v", env)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := New(rules); err == nil {
		t.Error("a credential that is not there is accepted")
	}
}

// What the far side says of itself does not tell the secret.
func TestSecretStaysOutOfErrors(t *testing.T) {
	p := &Proxy{}
	if err := p.withoutSecret(errors.New("bad header the-secret"), way{value: "the-secret"}); strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestCloseCutsOff(t *testing.T) {
	hold, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	p, dial := serve(t, &Rules{Allow: []Target{target(t, "public.example:443")}}, &world{to: hold.Addr().String()})
	conn := dial()
	if code, _ := ask(t, conn, connectTo("public.example:443")); code != 200 {
		t.Fatal(code)
	}
	idle := dial()
	defer idle.Close()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{conn, idle} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection lives on")
		}
	}
}

func TestValidate(t *testing.T) {
	good := Credential{Target: target(t, "api.example:443"), Header: "x-api-key", Env: "KEY"}
	for name, spoil := range map[string]func(*Credential){
		"no header":   func(c *Credential) { c.Header = "" },
		"hop header":  func(c *Credential) { c.Header = "connection" },
		"host header": func(c *Credential) { c.Header = "HOST" },
		"two places":  func(c *Credential) { c.File = "/f" },
		"no place":    func(c *Credential) { c.Env = "" },
		"prefix":      func(c *Credential) { c.Prefix = "a\r\nb" },
	} {
		c := good
		spoil(&c)
		if (&Rules{Credentials: []Credential{c}}).Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if (&Rules{Credentials: []Credential{good, good}}).Validate() == nil {
		t.Error("two for one target are accepted")
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"a.example:443": "a.example:443", "A.Example.:80": "a.example:80", "[2001:4860::8888]:53": "[2001:4860::8888]:53", "8.8.8.8:1": "8.8.8.8:1", "a_b.c:1": "a_b.c:1",
		"": "", "a": "", "a:": "", ":80": "", "a:0": "", "a:65536": "", "a:+80": "", "a:080": "", "a:80:80": "", "a b:80": "", "a\x00:80": "", "a%2e:80": "", "1.2.3:80": "", "0x7f.1:80": "",
		"127.1:80": "", "2130706433:80": "", "0x7f000001:80": "", "[fe80::1%eth0]:80": "", "[::ffff:127.0.0.1]:80": "", "-a.b:80": "", "a..b:80": "", "*.example:80": "", "bücher.example:80": "", "a.example\r\n:80": "",
	} {
		got, err := ParseTarget(text)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestIsPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true,
		"127.0.0.1": false, "10.1.1.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "fe80::1": false, "fc00::1": false, "fd00:ec2::254": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "::10.0.0.1": false, "ff02::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Whatever is sent, nothing is connected to but what is allowed.
func FuzzProxy(f *testing.F) {
	f.Add([]byte(connectTo("public.example:443")))
	f.Add([]byte(connectTo("evil.example:443")))
	f.Add([]byte("GET http://public.example/ HTTP/1.1\r\nHost: a\r\n\r\nGET http://evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST http://public.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("CONNECT public.example:443@evil.example:443 HTTP/1.1\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	w := &world{}
	_, dial := serve(f, &Rules{Allow: []Target{target(f, "public.example:443"), target(f, "public.example:80")}}, w)
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := dial()
		_, _ = conn.Write(data)
		_ = conn.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, addr := range w.dials {
			if s := addr.String(); s != "93.184.216.34:443" && s != "93.184.216.34:80" {
				t.Errorf("%q: connected to %s", data, s)
			}
		}
		for _, host := range w.lookups {
			if host != "public.example" {
				t.Errorf("%q: looked up %s", data, host)
			}
		}
		w.dials, w.lookups = nil, nil
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"a.example:443", "[::1]:80", "127.1:80", "A.B.:1", "x:0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			return
		}
		again, err := ParseTarget(target.String())
		if err != nil || again != target {
			t.Errorf("%q is read as %s, which is read as %s, %v", text, target, again, err)
		}
	})
}
