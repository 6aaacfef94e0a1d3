package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/secret"
	"github.com/sop-host/sop/sdk"
)

// Why a credential was refused, beside the reasons of package agent.
const (
	reasonMalformed   = "CREDENTIAL_MALFORMED"
	reasonCertificate = "CERTIFICATE_INVALID"
	reasonUnmapped    = "CERTIFICATE_UNMAPPED"
	reasonTokenBad    = "OIDC_TOKEN_INVALID" //nolint:gosec // the name of a reason
	reasonTokenEnd    = "OIDC_TOKEN_EXPIRED" //nolint:gosec // likewise
	reasonIssuer      = "OIDC_ISSUER_UNKNOWN"
	reasonIssuerDown  = "OIDC_ISSUER_UNAVAILABLE"
	reasonGuessing    = "AUTHENTICATION_GUESSING"
	reasonRenamed     = "CALLER_RENAMED"
)

// authenticator finds out who calls. What proves it, in this order:
//
//  1. a bearer credential: an enrolled key, or the token of an OIDC issuer;
//  2. the client certificate of the connection, if client_ca is configured;
//  3. the credentials of the process at the other end of a unix socket.
//
// The first that is there decides. One that is wrong is refused: the call never
// falls back to what comes after. A call without any goes on unauthenticated,
// and is refused where it needs a permission.
type authenticator struct {
	nexus      *nexus.Nexus
	identities atomic.Pointer[Identities]
	guard      *secret.Guard
	now        func() time.Time
	errors     *connect.ErrorWriter
	calls      *limiter // of the server; nil: none
}

func newAuthenticator(n *nexus.Nexus) *authenticator {
	a := &authenticator{nexus: n, guard: secret.NewGuard(), now: time.Now, errors: connect.NewErrorWriter()}
	a.identities.Store(&Identities{})
	return a
}

// wrap authenticates every request before next sees it.
func (a *authenticator) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := withOrigin(r.Context(), r.Header)
		w.Header().Set(apierr.RequestID, audit.OriginFrom(ctx).RequestID)
		ctx, err := a.identify(ctx, r)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// judge says who it is that presents a credential.
type judge func(*presented) (nexus.Caller, error)

// judgeOf returns who judges what a request presents, and whether it could be a
// guess; nil where nothing says who calls.
func (a *authenticator) judgeOf(ctx context.Context, conn connection, r *http.Request) (of judge, guessable bool) {
	headers := r.Header.Values("Authorization")
	switch {
	case len(headers) > 0:
		return func(p *presented) (nexus.Caller, error) { return a.bearer(ctx, headers, p) }, true
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		return func(p *presented) (nexus.Caller, error) { return a.certificate(r.TLS.PeerCertificates, p) }, true
	case conn.peer != nil:
		return func(p *presented) (nexus.Caller, error) { return a.peer(*conn.peer, p) }, false
	}
	return nil, false
}

// identify returns a context with who calls, unless nothing says so.
func (a *authenticator) identify(ctx context.Context, r *http.Request) (context.Context, error) {
	conn := connectionOf(ctx)
	of, guessable := a.judgeOf(ctx, conn, r)
	if of == nil {
		return ctx, nil
	}
	if guessable {
		if err := a.slow(conn); err != nil {
			return ctx, err
		}
	}
	c, err := a.judged(ctx, conn, of, true)
	if err != nil {
		return ctx, err
	}
	return withBearing(nexus.WithCaller(ctx, c), bearing{a, conn, of}), nil
}

// presented is what is known of a credential, for the record of its refusal.
type presented struct {
	method nexus.Method
	known  map[string]string
}

func (p *presented) note(key, value string) {
	if p.known == nil {
		p.known = make(map[string]string)
	}
	p.known[key] = value
}

// judged has what was presented judged. A refusal is recorded, and counted where it
// was presented now; what could not be judged is neither, and counts as a call of
// nobody.
func (a *authenticator) judged(ctx context.Context, conn connection, of judge, now bool) (nexus.Caller, error) {
	var p presented
	c, err := of(&p)
	if err == nil {
		c.Source = conn.source
		return c, nil
	}
	why := sdk.FromError(err)
	if why.Code != codes.Unauthenticated {
		if now && a.calls != nil {
			if _, limited := a.calls.admit(ctx, false); limited != nil {
				err = limited
			}
		}
		return nexus.Caller{}, err
	}
	if now {
		if waited := a.guard.Failed(conn.source, a.now()); waited > 0 {
			p.note("turned_away", itoa(waited))
		}
	}
	a.nexus.CredentialRefused(ctx, p.method, conn.source, p.known, why)
	return nexus.Caller{}, err
}

// slow returns an error while the source of a connection has to wait before it
// may present a credential again.
func (a *authenticator) slow(conn connection) error {
	wait := a.guard.Wait(conn.source, a.now())
	if wait <= 0 {
		return nil
	}
	e := sdk.Errorf(codes.ResourceExhausted, reasonGuessing, "too many wrong credentials came from here; wait %s", wait).
		WithRemedy("check the credential before trying again")
	return e.RetryIn(wait)
}

// peer judges the process at the other end of a unix socket.
func (a *authenticator) peer(process peer, p *presented) (nexus.Caller, error) {
	p.method = nexus.MethodPeer
	c := a.identities.Load().peer(process)
	return c, a.live(c.Name)
}

// bearer judges the credential in Authorization headers.
func (a *authenticator) bearer(ctx context.Context, headers []string, p *presented) (nexus.Caller, error) {
	p.method = "bearer"
	credential, err := bearerOf(headers)
	if err != nil {
		return nexus.Caller{}, err
	}
	if !strings.HasPrefix(credential, "sop") && strings.Count(credential, ".") == 2 {
		p.method = nexus.MethodOIDC
		c, err := a.identities.Load().token(ctx, credential, a.now(), p)
		if err == nil {
			err = a.live(c.Name)
		}
		return c, err
	}
	p.method = nexus.MethodKey
	if a.nexus.Agents == nil {
		return nexus.Caller{}, refusal(reasonMalformed, "the host knows no keys")
	}
	noteAccessor(credential, p)
	found, err := a.nexus.Agents.Authenticate(ctx, credential)
	if err != nil {
		return nexus.Caller{}, err
	}
	return nexus.AgentCaller(found), nil
}

// bearerOf returns the one credential in Authorization headers. What it was is
// never in the error.
func bearerOf(headers []string) (string, error) {
	const form = "send one header: Authorization: Bearer, a space, and the credential"
	if len(headers) != 1 {
		return "", refusal(reasonMalformed, "there is more than one Authorization header").WithRemedy(form)
	}
	scheme, credential, found := strings.Cut(headers[0], " ")
	credential = strings.Trim(credential, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", refusal(reasonMalformed, "the authorization scheme is not Bearer").WithRemedy(form)
	case !found || credential == "":
		return "", refusal(reasonMalformed, "the Authorization header holds no credential").WithRemedy(form)
	case len(credential) > maxCredential:
		return "", refusal(reasonMalformed, "the credential is longer than %d bytes", maxCredential).WithRemedy(form)
	}
	for i := range len(credential) {
		if b := credential[i]; b <= ' ' || b >= 0x7f || b == ',' {
			return "", refusal(reasonMalformed, "the credential holds what none may").WithRemedy(form)
		}
	}
	return credential, nil
}

// maxCredential bounds a bearer credential, in bytes.
const maxCredential = 16 << 10

// live returns an error where the agent of a name has ended.
func (a *authenticator) live(name string) error {
	if a.nexus.Agents == nil {
		return nil
	}
	return a.nexus.Agents.Live(name)
}

// certificate judges a client certificate and those sent with it.
func (a *authenticator) certificate(chain []*x509.Certificate, p *presented) (nexus.Caller, error) {
	p.method = nexus.MethodMTLS
	p.note("subject", clipName(chain[0].Subject.String()))
	c, err := a.identities.Load().certificate(chain, a.now(), p)
	if err == nil {
		err = a.live(c.Name)
	}
	return c, err
}

func refusal(reason, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.Unauthenticated, reason, format, args...)
}

// refuse answers in the protocol of the request.
func (a *authenticator) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if a.errors.IsSupported(r) {
		if connect.CodeOf(wireError(err)) == connect.CodeUnauthenticated {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		_ = a.errors.Write(w, r, wireError(err)) // who went away is not told
		return
	}
	writeError(w, err)
}

// connection is what is known of a connection before it asks anything.
type connection struct {
	source string
	peer   *peer // nil: not a unix socket, or not known
}

type peer struct {
	uid uint32
	pid int32
}

type connectionKey struct{}

// connectionOf returns what onConnect put there.
func connectionOf(ctx context.Context) connection {
	c, _ := ctx.Value(connectionKey{}).(connection)
	return c
}

// onConnect notes where a connection comes from.
func onConnect(ctx context.Context, conn net.Conn) context.Context {
	if t, is := conn.(*tls.Conn); is {
		conn = t.NetConn()
	}
	if b, is := conn.(*boundedConn); is {
		return context.WithValue(ctx, connectionKey{}, b.from)
	}
	return context.WithValue(ctx, connectionKey{}, connectionFrom(conn))
}

func connectionFrom(conn net.Conn) connection {
	c := connection{source: sourceOf(conn.RemoteAddr())}
	if p, ok := peerOf(conn); ok {
		c.peer = &p
		c.source = "uid:" + itoa(int(p.uid))
	}
	return c
}

// sourceOf is the address without its port. Of IPv6 it is the network: a host
// has all of it.
func sourceOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "local"
	}
	ip, ok := netip.AddrFromSlice(tcp.IP)
	if !ok {
		return "unknown"
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return network.String()
}
