package startup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/config"
)

// gate is where callers come in, other than the unix socket itself: TCP with its
// certificates, the issuers of tokens, and who is who by proofs from outside.
// What a reload changes is prepared beside the old, and then put in its place.
type gate struct {
	server  *api.Server
	dir     dataDir
	logger  hclog.Logger
	changed func()             // the status has
	fact    func(audit.Record) // of what has happened

	certs    atomic.Pointer[api.Certificates] // nil: not on TCP
	listener net.Listener                     // nil: not on TCP
	watch    func()                           // ends the watch of certs
	serving  sync.WaitGroup

	socket socketAccess

	mu      sync.Mutex // guards what follows
	cfg     *config.Config
	issuers []*keptIssuer
	failed  map[string]error // what went wrong after the commit, by what
}

// keptIssuer is an issuer whose keys are kept; stop ends that.
type keptIssuer struct {
	*api.Issuer
	stop func()
}

// openGate makes the gate of a configuration.
func (h *host) openGate(ctx context.Context, undo *closers, server *api.Server, cfg *config.Config) error {
	h.gate = &gate{
		server: server, dir: h.dir, logger: h.logger.Named("api"), changed: h.changed.Tell, fact: h.facts.Record,
		failed: make(map[string]error), watch: func() {},
	}
	first, diags := h.gate.prepare(ctx, cfg)
	if diags.HasErrors() {
		return diags
	}
	first.commit()
	undo.add(func() error { h.gate.close(); return nil })
	if h.gate.listener != nil {
		h.steps.add(Step{Component: "api", Phase: "ready", Detail: "https://" + h.gate.listener.Addr().String()})
	}
	return nil
}

// close ends everything. It is called when the server has stopped.
func (g *gate) close() {
	g.watch()
	for _, i := range g.issuers {
		i.stop()
	}
	if g.listener != nil {
		_ = g.listener.Close() // the server may have done so
	}
	g.serving.Wait()
}

// opening is a gate that was prepared.
type opening struct {
	gate     *gate
	cfg      *config.Config
	listener net.Listener      // the one before, or a new one
	certs    *api.Certificates // likewise
	issuers  []*api.Issuer     // likewise
	group    int               // of the socket
}

// prepare gets ready what cfg changes. Either it has errors, or the caller
// commits or discards.
func (g *gate) prepare(ctx context.Context, cfg *config.Config) (*opening, config.Diagnostics) {
	o := &opening{gate: g, cfg: cfg, group: -1}
	var diags config.Diagnostics
	problem := func(at config.Range, summary string, err error) {
		diags = append(diags, cfg.Problem(at, summary, sentence(err.Error())))
	}
	a := &cfg.API
	if a.SocketGroup != "" {
		found, err := user.LookupGroup(a.SocketGroup)
		if err == nil {
			o.group, err = strconv.Atoi(found.Gid)
		}
		if err != nil {
			problem(a.SocketSource, "There is no such group", err)
		}
	}
	for i := range cfg.OIDC {
		issuer, err := g.issuer(&cfg.OIDC[i])
		if err != nil {
			problem(cfg.OIDC[i].Source, "The issuer cannot be used", err)
			continue
		}
		o.issuers = append(o.issuers, issuer)
	}
	if a.Listen == "" {
		return o, diags
	}
	var err error
	if o.certs = g.certs.Load(); o.certs == nil || !o.certs.For(&a.TLS) {
		if o.certs, err = api.LoadCertificates(a.TLS); err != nil {
			problem(a.TLSSource, "The certificates cannot be used", err)
		}
	}
	if diags.HasErrors() {
		return nil, diags // before the address is taken
	}
	if o.listener = g.listener; o.listener == nil || g.cfg.API.Listen != a.Listen {
		o.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", a.Listen)
		if err != nil {
			problem(a.ListenSource, "The API cannot be served there", fmt.Errorf("%w; %s", err, g.wayOut(a.Listen)))
		}
	}
	return o, diags
}

// issuer returns the one that is kept already, or a new one.
func (g *gate) issuer(cfg *config.OIDC) (*api.Issuer, error) {
	for _, i := range g.issuers {
		if i.Same(cfg) {
			return i.Issuer, nil
		}
	}
	return api.NewIssuer(*cfg)
}

// wayOut says what to do where an address cannot be listened on. The host itself
// stands in the way where only the name before the port is another: it does not
// give an address up before it has the next.
func (g *gate) wayOut(listen string) string {
	if g.listener != nil {
		_, taken, errTaken := net.SplitHostPort(g.listener.Addr().String())
		_, port, err := net.SplitHostPort(listen)
		if errTaken == nil && err == nil && port == taken {
			return fmt.Sprintf("the host itself listens on %s until it has the next address: change to another port first and then back, or start the host anew", g.listener.Addr())
		}
	}
	return "choose another address, or stop what listens on it"
}

// discard gives up what was prepared.
func (o *opening) discard() {
	if o.listener != nil && o.listener != o.gate.listener {
		_ = o.listener.Close() // nobody has seen it
	}
}

// commit puts what was prepared in force. Connections to an address that is
// given up go on until their calls have ended.
func (o *opening) commit() {
	g := o.gate
	old := g.listener
	o.commitCertificates()
	o.commitIssuers()
	g.identify()
	if g.listener = o.listener; g.listener != nil && g.listener != old {
		g.serving.Go(func() { g.serve(o.listener) })
	}
	if old != nil && old != g.listener {
		_ = old.Close() // its accept ends, which serve expects
	}
	g.trouble("socket", g.openSocket(os.FileMode(o.cfg.API.SocketMode), o.group))
}

// socketAccess is who may call by the socket.
type socketAccess struct {
	mu     sync.Mutex
	opened bool // to others than the host's user
	mode   os.FileMode
	group  int
}

// openSocket lets those call by the socket whom mode and group name.
func (g *gate) openSocket(mode os.FileMode, group int) error {
	g.socket.mu.Lock()
	defer g.socket.mu.Unlock()
	g.socket.mode, g.socket.group = mode, group
	return g.socket.open(g.dir)
}

// open lets them call. A data directory that never was opened is left as its owner
// made it. a.mu is held.
func (a *socketAccess) open(dir dataDir) error {
	if a.mode == 0o600 && !a.opened {
		return nil
	}
	a.opened = true
	return errors.Join(dir.open(a.mode, a.group), api.Restrict(dir.socket(), a.mode, a.group))
}

// socketAgain makes the socket anew, for those whom it was for.
func (g *gate) socketAgain() (net.Listener, error) {
	g.socket.mu.Lock()
	defer g.socket.mu.Unlock()
	l, err := api.Listen(g.dir.socket())
	if err != nil {
		return nil, err
	}
	if err := g.socket.open(g.dir); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// socketTrouble says what came of making the socket anew.
func (g *gate) socketTrouble(err error) {
	if err == nil {
		g.logger.Warn("the socket was removed, and is made anew", "path", g.dir.socket())
	} else {
		err = fmt.Errorf("the socket was removed and cannot be made anew: %w", err)
	}
	g.trouble("socket file", err)
}

// serve serves on l until it is closed.
func (g *gate) serve(l net.Listener) {
	g.logger.Info("serving", "address", l.Addr().String())
	if err := g.server.ServeTLS(l, g.certs.Load); err != nil && !errors.Is(err, net.ErrClosed) {
		g.trouble("listen", fmt.Errorf("the API is not served on %s any more: %w", l.Addr(), err))
	}
}

func (o *opening) commitCertificates() {
	g := o.gate
	if g.certs.Load() == o.certs {
		return
	}
	g.watch()
	g.watch = func() {}
	if o.certs != nil { // else connections that there are have done their handshake
		g.watch = g.background(func(ctx context.Context) {
			o.certs.Watch(ctx, g.reread, func(err error) {
				g.logger.Warn("changes of the certificates are noticed late: the system does not tell of them", "error", err)
			})
		})
	}
	g.certs.Store(o.certs)
}

// reread takes note of certificates that have changed, or of why they are not in
// force.
func (g *gate) reread(err error) {
	r := audit.Record{Actor: actorHost, Action: "api.certificates", Resource: "api", Outcome: audit.Success, Reason: "the files have changed"}
	if err != nil {
		g.logger.Error("the certificates as they lie there are not taken over", "error", err)
		r.Outcome, r.Reason = audit.Failure, err.Error()
	} else {
		g.logger.Info("certificates taken over")
		g.identify()
	}
	g.fact(r)
	g.changed()
}

func (o *opening) commitIssuers() {
	g := o.gate
	kept := make(map[*api.Issuer]*keptIssuer)
	for _, k := range g.issuers {
		kept[k.Issuer] = k
	}
	var issuers []*keptIssuer
	for _, i := range o.issuers {
		k := kept[i]
		if delete(kept, i); k == nil {
			k = &keptIssuer{i, g.background(func(ctx context.Context) { i.Run(ctx, func(err error) { g.issuerChanged(i, err) }) })}
		}
		issuers = append(issuers, k)
	}
	g.mu.Lock()
	g.cfg, g.issuers = o.cfg, issuers
	g.mu.Unlock()
	for _, k := range kept {
		k.stop()
	}
}

func (g *gate) issuerChanged(i *api.Issuer, err error) {
	if err != nil {
		g.logger.Warn("the keys of an OIDC issuer cannot be read; its tokens are refused once the keys that are known are a day old", "oidc", i.Name(), "error", err)
	} else {
		g.logger.Info("the keys of an OIDC issuer were read", "oidc", i.Name())
	}
	g.changed()
}

// background runs what ends with its context; the result ends it.
func (g *gate) background(run func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// trouble remembers what is wrong with something, or that nothing is.
func (g *gate) trouble(what string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.failed, what); err != nil {
		g.failed[what] = err
		g.logger.Error("api", "error", err)
	}
}

// identify takes over who is who, as configuration and certificates say now.
func (g *gate) identify() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg == nil {
		return // nothing is in force yet
	}
	var roots *x509.CertPool
	if c := g.certs.Load(); c != nil {
		roots = c.Roots()
	}
	issuers := make([]*api.Issuer, len(g.issuers))
	for i, k := range g.issuers {
		issuers[i] = k.Issuer
	}
	g.server.Identify(api.NewIdentities(g.cfg, roots, issuers))
}

// problems says what is not as it should be, one sentence each.
func (g *gate) problems() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(g.failed)) {
		out = append(out, g.failed[what].Error())
	}
	if c := g.certs.Load(); c != nil {
		if err := c.Problem(); err != nil {
			out = append(out, err.Error())
		}
	}
	for _, i := range g.issuers {
		if err := i.Problem(); err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}
