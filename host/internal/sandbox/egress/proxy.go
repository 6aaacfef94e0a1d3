package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	resolveTimeout = 10 * time.Second
	dialTimeout    = 15 * time.Second
	headerTimeout  = 30 * time.Second
	idleTimeout    = 5 * time.Minute
	maxHeader      = 64 << 10
	maxConnections = 128
)

// hopHeaders are for the next hop only.
var hopHeaders = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// A Proxy serves one sandbox.
type Proxy struct {
	ways   map[Target]way
	record record
	server *http.Server
	served sync.WaitGroup

	// Of tests.
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	roots  *tls.Config

	mu      sync.Mutex
	tunnels map[net.Conn]bool
	closed  bool
}

// New returns a proxy that keeps to the rules. It reads their credentials.
func New(rules *Rules) (*Proxy, error) {
	ways, err := rules.ways()
	if err != nil {
		return nil, err
	}
	p := &Proxy{ways: ways, tunnels: make(map[net.Conn]bool)}
	p.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	p.dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	}
	return p, nil
}

// Serve serves what connects, until Close, which closes the listener.
func (p *Proxy) Serve(listener net.Listener) {
	p.server = &http.Server{
		Handler: p, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true, Protocols: new(http.Protocols),
	}
	p.server.Protocols.SetHTTP1(true)
	p.served.Go(func() { _ = p.server.Serve(&limited{listener, make(chan struct{}, maxConnections)}) }) // it ends with Close
}

// Close cuts off whoever is connected and returns when nothing is left.
func (p *Proxy) Close() error {
	err := p.server.Close()
	p.mu.Lock()
	p.closed = true
	for conn := range p.tunnels {
		_ = conn.Close() // its user is gone
	}
	p.mu.Unlock()
	p.served.Wait()
	return err
}

// Decisions are all that have been made, each with how often.
func (p *Proxy) Decisions() []Decision { return p.record.list() }

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.served.Add(1)
	p.mu.Unlock()
	defer p.served.Done()
	if r.Method == http.MethodConnect {
		p.tunnel(w, r)
		return
	}
	p.forward(w, r)
}

// refuse answers and writes down why.
func (p *Proxy) refuse(w http.ResponseWriter, target string, allowed bool, err error) {
	status := http.StatusForbidden
	if allowed {
		status = http.StatusBadGateway
	}
	if len(target) > maxHost+8 {
		target = target[:maxHost+8]
	}
	target = strings.ToValidUTF8(target, "?")
	p.record.add(Decision{Target: target, Allowed: allowed, Why: err.Error()})
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "sop: %q: %v\n", target, err) //nolint:gosec // quoted plain text, for a program; who asked may be gone
}

// find returns the way to a target.
func (p *Proxy) find(text string) (Target, way, error) {
	target, err := ParseTarget(text)
	if err != nil {
		return target, way{}, err
	}
	found, allowed := p.ways[target]
	if !allowed {
		return target, way{}, errNotAllowed
	}
	return target, found, nil
}

// reach resolves a target, once, and connects to an address that may be
// reached: what is connected to is what was looked at.
func (p *Proxy) reach(ctx context.Context, target Target, w way) (net.Conn, error) {
	addrs, err := p.resolve(ctx, target.Host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var errs []error
	for _, addr := range addrs {
		addr = addr.Unmap()
		if !w.private && !isPublic(addr) {
			errs = append(errs, errors.New("it resolves to an address that is not on the internet: name it under allow_private if that is meant"))
			continue
		}
		conn, err := p.dial(ctx, netip.AddrPortFrom(addr, target.Port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, errors.New("it has no address")
	}
	return nil, errs[0]
}

func (p *Proxy) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return p.lookup(ctx, host)
}

// tunnel serves CONNECT.
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	target, found, err := p.find(r.RequestURI)
	if err == nil && found.header != "" {
		err = errors.New("it has a credential, which cannot be added to what is encrypted: speak plain HTTP to it, as http://" + target.String())
	}
	if err != nil {
		p.refuse(w, r.RequestURI, false, err)
		return
	}
	out, err := p.reach(r.Context(), target, found)
	if err != nil {
		p.refuse(w, target.String(), true, err)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		_ = out.Close() // nothing was sent
		p.refuse(w, target.String(), true, errors.ErrUnsupported)
		return
	}
	in, buffered, err := hijacker.Hijack()
	if err != nil {
		_ = out.Close() // likewise
		return
	}
	p.record.add(Decision{Target: target.String(), Allowed: true})
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_, _ = in.Close(), out.Close()
		return
	}
	p.join(in, buffered.Reader, out)
}

// join copies both ways until both have ended, or Close.
func (p *Proxy) join(in net.Conn, from *bufio.Reader, out net.Conn) {
	p.mu.Lock()
	closed := p.closed
	p.tunnels[in], p.tunnels[out] = true, true
	p.mu.Unlock()
	if closed {
		_, _ = in.Close(), out.Close()
	}
	var both sync.WaitGroup
	both.Go(func() { copyOneWay(out, from) })
	copyOneWay(in, out)
	both.Wait()
	p.mu.Lock()
	delete(p.tunnels, in)
	delete(p.tunnels, out)
	p.mu.Unlock()
	_, _ = in.Close(), out.Close() // both have ended
}

// copyOneWay ends what it copies to for writing, or wholly where that is not
// possible.
func copyOneWay(to net.Conn, from io.Reader) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	_ = to.Close() // one way is broken, and so is the other
}

// forward serves requests in absolute form.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request) {
	if r.URL.Scheme != "http" || r.URL.Host == "" || r.URL.User != nil {
		p.refuse(w, r.RequestURI, false, errors.New("it is no request to a proxy: CONNECT host:port, or http://host:port/path"))
		return
	}
	asked := r.URL.Host
	if r.URL.Port() == "" {
		asked = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	target, found, err := p.find(asked)
	if err != nil {
		p.refuse(w, asked, false, err)
		return
	}
	answer, err := p.exchange(r, target, found)
	if err != nil {
		p.refuse(w, target.String(), true, p.withoutSecret(err, found))
		return
	}
	defer answer.Body.Close() //nolint:errcheck // only read from
	p.record.add(Decision{Target: target.String(), Allowed: true, Credential: found.header != ""})
	dropHops(answer.Header)
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(flushing{w, http.NewResponseController(w)}, answer.Body) // who asked may be gone
}

// exchange makes one request to a target on a connection of its own. Redirects
// are for who asked.
func (p *Proxy) exchange(r *http.Request, target Target, found way) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.RequestURI, out.Close = "", true
	out.Host = target.Host
	scheme, usual := "http", uint16(80)
	if found.header != "" && !found.plain {
		scheme, usual = "https", 443
	}
	if target.Port != usual {
		out.Host = target.String()
	}
	out.URL.Scheme, out.URL.Host = scheme, target.String()
	dropHops(out.Header)
	if found.header != "" {
		out.Header[found.header] = []string{found.value}
	}
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return p.reach(ctx, target, found) },
		DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: p.roots, TLSHandshakeTimeout: dialTimeout, MaxResponseHeaderBytes: maxHeader,
	}
	return transport.RoundTrip(out)
}

// withoutSecret is an error fit to be shown to the sandbox.
func (p *Proxy) withoutSecret(err error, found way) error {
	if found.value != "" && strings.Contains(err.Error(), found.value) {
		return errors.New("the request failed")
	}
	return err
}

// dropHops removes what is for one hop only, also what Connection names.
func dropHops(h http.Header) {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopHeaders {
		h.Del(name)
	}
}

// flushing passes on what comes as it comes: answers may be streams.
type flushing struct {
	io.Writer
	control *http.ResponseController
}

// Write implements [io.Writer].
func (f flushing) Write(data []byte) (int, error) {
	n, err := f.Writer.Write(data)
	return n, errors.Join(err, f.control.Flush())
}

// limited bounds the connections that are served at once.
type limited struct {
	net.Listener
	slots chan struct{}
}

// Accept implements [net.Listener].
func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotted{Conn: conn, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

type slotted struct {
	net.Conn
	free func()
}

// Close implements [net.Conn].
func (s *slotted) Close() error {
	s.free()
	return s.Conn.Close()
}

// CloseWrite ends the stream to the sandbox.
func (s *slotted) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Variables are set in the sandbox, for programs that look for either case.
func (r *Rules) Variables(port int) []string {
	address := "http://127.0.0.1:" + strconv.Itoa(port)
	out := []string{
		"http_proxy=" + address, "https_proxy=" + address, "HTTP_PROXY=" + address, "HTTPS_PROXY=" + address,
		"no_proxy=localhost,127.0.0.1,::1", "NO_PROXY=localhost,127.0.0.1,::1",
	}
	for _, c := range r.Credentials {
		if c.Variable != "" {
			out = append(out, c.Variable+"="+Placeholder)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
