package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/store"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, by *authority, template *x509.Certificate) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := &authority{template, key}
	if by != nil {
		parent = by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return issue(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}

// write writes files into a directory.
func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// access is an API on TCP and on a socket, with agents, certificates and an
// issuer.
type access struct {
	t        *testing.T
	address  string
	socket   string
	agents   *agent.Service
	policy   policy.Live
	config   *config.Config
	log      *fakeLog
	server   *Server
	hosts    *authority
	clients  *authority
	certs    *Certificates
	tlsDir   string
	provider *provider
	issuer   *Issuer
}

func serveAccess(t *testing.T) *access {
	t.Helper()
	a := &access{t: t, log: &fakeLog{}, hosts: newAuthority(t), clients: newAuthority(t), tlsDir: t.TempDir(), provider: newProvider(t)}
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := agent.NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	if a.agents, err = agent.NewService(t.Context(), db.Agents(), agent.Options{Key: key}); err != nil {
		t.Fatal(err)
	}
	host := a.issueHost()
	write(t, a.tlsDir, map[string][]byte{"host.pem": host.pem(), "host.key": host.keyPEM(t), "clients.pem": a.clients.pem()})
	a.certs, err = LoadCertificates(config.TLS{
		Cert: filepath.Join(a.tlsDir, "host.pem"), Key: filepath.Join(a.tlsDir, "host.key"), ClientCA: filepath.Join(a.tlsDir, "clients.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.issuer, err = NewIssuer(a.provider.config()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	kept := make(chan struct{})
	reports := make(chan error, 10)
	news := a.issuer.newsForTest()
	go func() {
		defer close(kept)
		a.issuer.Run(ctx, func(err error) { reports <- err })
	}()
	<-news
	a.server = NewServer(&nexus.Nexus{Agents: a.agents, Audit: a.log, Policy: &a.policy, Events: db.Events(), Logger: hclog.NewNullLogger()})
	a.config = &config.Config{Agents: []config.Agent{
		{Name: "ci", Trust: "exterior", Groups: []string{"builders"}, CommonNames: []string{"ci.example.org"}, SPIFFE: []string{"spiffe://example.org/ci"}},
		{Name: "bob", Trust: "system", Groups: []string{"leads"}, OIDC: []string{"corp:bob@example.org"}},
		{Name: "me", Trust: "system", UIDs: []uint32{uint32(os.Getuid())}},
	}}
	a.config.API.TLS.TrustDomains = []string{"example.net"}
	a.server.Identify(NewIdentities(a.config, a.certs.Roots(), []*Issuer{a.issuer}))
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.address, a.socket = "https://"+tcp.Addr().String(), filepath.Join(t.TempDir(), "s")
	local, err := Listen(a.socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- a.server.ServeTLS(tcp, func() *Certificates { return a.certs }) }()
	go func() { done <- a.server.Serve(local) }()
	t.Cleanup(func() {
		if err := errors.Join(a.server.Shutdown(context.WithoutCancel(t.Context())), <-done, <-done, db.Close()); err != nil {
			t.Error(err)
		}
		cancel()
		<-kept
	})
	return a
}

func (a *access) issueHost() *authority {
	return issue(a.t, a.hosts, &x509.Certificate{Subject: pkix.Name{CommonName: "host"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

func (i *Issuer) newsForTest() <-chan struct{} {
	_, news := i.settled("", time.Now())
	return news
}

// client calls by TCP, with a client certificate if there is one.
func (a *access) client(cert *authority) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(a.hosts.cert)
	cfg := &tls.Config{RootCAs: roots}
	if cert != nil {
		pair := cert.pair()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (a *access) local() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, a.socket) }}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// who calls and returns "name trust method groups", or the reason of the
// refusal.
func who(t *testing.T, c *http.Client, address string, authorization ...string) string {
	t.Helper()
	req := connect.NewRequest(&apiv1.WhoAmIRequest{})
	for _, h := range authorization {
		req.Header().Add("Authorization", h)
	}
	resp, err := apiv1connect.NewAgentClient(c, address).WhoAmI(t.Context(), req)
	if err != nil {
		reason := tokenReason(t, err)
		for _, h := range authorization {
			if _, secret, ok := strings.Cut(h, " "); ok && len(secret) > 20 && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the credential is in the error", reason)
			}
		}
		return reason
	}
	m := resp.Msg
	return strings.TrimSpace(fmt.Sprint(m.GetName(), " ", m.GetTrust(), " ", m.GetMethod(), " ", strings.Join(m.GetGroups(), ",")))
}

// Each test of credentials uses a source of its own where many are wrong: the
// guard is set back.
func (a *access) forgive() { a.server.authn.guard = newAuthenticator(a.server.authn.nexus).guard }

func (a *access) enroll(name string) string {
	a.t.Helper()
	k, _, err := a.agents.Enroll(a.t.Context(), agent.Spec{Name: name, By: "test"})
	if err != nil {
		a.t.Fatal(err)
	}
	return k.Reveal()
}

// Whoever is refused can say by which id the refusal is on record.
func TestAnswersNameTheirRequest(t *testing.T) {
	a := serveAccess(t)
	a.policy.Replace(policy.Default())
	key := a.enroll("bot")
	gaps := apiv1connect.NewGapClient(a.client(nil), a.address)
	for name, c := range map[string]struct{ credential, own string }{
		"not permitted": {key, ""}, "not known": {key + "x", ""}, "with its own": {key, "mine"},
	} {
		req := connect.NewRequest(&apiv1.ListGapsRequest{})
		req.Header().Set("Authorization", "Bearer "+c.credential)
		if c.own != "" {
			req.Header().Set("X-Request-Id", c.own)
		}
		_, err := gaps.ListGaps(t.Context(), req)
		var ce *connect.Error
		if !errors.As(err, &ce) {
			t.Fatalf("%s: %v", name, err)
		}
		id := apierr.Decode(ce).Metadata["request_id"]
		if id == "" || c.own != "" && id != c.own {
			t.Errorf("%s: the answer has the id %q", name, id)
		}
		if c.credential == key && !slices.ContainsFunc(a.log.all(), func(r *audit.Record) bool { return r.RequestID == id && r.Outcome == audit.Denied }) {
			t.Errorf("%s: no record has the id %q", name, id)
		}
	}
}

func TestWhoCallsByKey(t *testing.T) {
	a := serveAccess(t)
	key, ended := a.enroll("agent-7"), a.enroll("ended")
	if _, err := a.agents.Revoke(t.Context(), "ended", "test", ""); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		headers []string
		want    string
	}{
		"good":         {[]string{"Bearer " + key}, "agent-7 exterior key"},
		"scheme":       {[]string{"bEARER  " + key}, "agent-7 exterior key"},
		"revoked":      {[]string{"Bearer " + ended}, agent.ReasonRevoked},
		"cut":          {[]string{"Bearer " + key[:60]}, agent.ReasonMalformed},
		"none":         {[]string{"Bearer "}, reasonMalformed},
		"empty":        {[]string{""}, reasonMalformed},
		"basic":        {[]string{"Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+key))}, reasonMalformed},
		"no scheme":    {[]string{key}, reasonMalformed},
		"two headers":  {[]string{"Bearer " + key, "Bearer " + key}, reasonMalformed},
		"two in one":   {[]string{"Bearer " + key + ", Bearer " + key}, reasonMalformed},
		"large":        {[]string{"Bearer " + strings.Repeat("a", maxCredential+1)}, reasonMalformed},
		"garbage":      {[]string{"Bearer garbage"}, agent.ReasonMalformed},
		"not a token":  {[]string{"Bearer a.b.c"}, reasonTokenBad},
		"no signature": {[]string{"Bearer e30.e30."}, reasonTokenBad},
	} {
		for transport, c := range map[string]struct {
			client  *http.Client
			address string
		}{"tcp": {a.client(nil), a.address}, "socket": {a.local(), "http://sop"}} {
			if got := who(t, c.client, c.address, tt.headers...); got != tt.want {
				t.Errorf("%s by %s: %s, want %s", name, transport, got, tt.want)
			}
		}
		a.forgive()
	}
	// Without a credential the socket proves who calls, and TCP nobody.
	if got := who(t, a.local(), "http://sop"); got != "me system peer" {
		t.Errorf("by the socket: %s", got)
	}
	if got := who(t, a.client(nil), a.address); got != "UNAUTHENTICATED" {
		t.Errorf("by TCP: %s", got)
	}
	refused := 0
	for _, r := range a.log.all() {
		if text := fmt.Sprint(*r); strings.Contains(text, key[25:]) || strings.Contains(text, ended[25:]) {
			t.Errorf("a key is in record %s", r.Action)
		}
		if r.Action == "access.authenticate" {
			if refused++; r.Outcome != "denied" || r.Actor != "unauthenticated" || !strings.HasPrefix(r.Resource, "source/") || r.Attributes["method"] == "" {
				t.Errorf("recorded %+v", r)
			}
		}
	}
	if refused != 24 {
		t.Errorf("%d refusals were recorded", refused)
	}
}

func TestWhoCallsByCertificate(t *testing.T) {
	a := serveAccess(t)
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	uri := func(text string) []*url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	long := func(hours int) (from, to time.Time) {
		at := time.Now().Add(time.Duration(hours) * time.Hour)
		return at.Add(-time.Hour), at
	}
	expired, future := &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: client}, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: client}
	expired.NotBefore, expired.NotAfter = long(-1)
	future.NotBefore, future.NotAfter = long(5)
	for name, tt := range map[string]struct {
		by       *authority
		template *x509.Certificate
		want     string
	}{
		"common name":       {a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: client}, "ci exterior mtls builders"},
		"spiffe":            {a.clients, &x509.Certificate{URIs: uri("spiffe://example.org/ci"), ExtKeyUsage: client}, "ci exterior mtls builders"},
		"trust domain":      {a.clients, &x509.Certificate{URIs: uri("spiffe://example.net/x/y"), ExtKeyUsage: client}, "spiffe://example.net/x/y exterior mtls"},
		"unmapped":          {a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "other"}, ExtKeyUsage: client}, reasonUnmapped},
		"unmapped spiffe":   {a.clients, &x509.Certificate{URIs: uri("spiffe://example.org/other"), ExtKeyUsage: client}, reasonUnmapped},
		"spiffe decides":    {a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, URIs: uri("spiffe://example.org/other"), ExtKeyUsage: client}, reasonUnmapped},
		"no spiffe id":      {a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, URIs: uri("https://example.org/ci"), ExtKeyUsage: client}, reasonCertificate},
		"two uris":          {a.clients, &x509.Certificate{URIs: append(uri("spiffe://example.org/ci"), uri("spiffe://example.org/x")...), ExtKeyUsage: client}, reasonCertificate},
		"another authority": {a.hosts, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: client}, reasonCertificate},
		"its own":           {nil, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: client}, reasonCertificate},
		"of a server":       {a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, reasonCertificate},
		"expired":           {a.clients, expired, reasonCertificate},
		"not yet valid":     {a.clients, future, reasonCertificate},
	} {
		if got := who(t, a.client(issue(t, tt.by, tt.template)), a.address); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		a.forgive()
	}
	// What is presented with the call decides, for better or worse.
	ci := issue(t, a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "ci.example.org"}, ExtKeyUsage: client})
	stray := issue(t, a.clients, &x509.Certificate{Subject: pkix.Name{CommonName: "stray"}, ExtKeyUsage: client})
	key := a.enroll("agent-7")
	if got := who(t, a.client(stray), a.address, "Bearer "+key); got != "agent-7 exterior key" {
		t.Errorf("a key with a certificate of nobody: %s", got)
	}
	if got := who(t, a.client(ci), a.address, "Bearer "+key[:60]); got != agent.ReasonMalformed {
		t.Errorf("a wrong key with a good certificate: %s", got)
	}
	// An agent that was enrolled and revoked does not come back by a certificate.
	a.enroll("ci")
	if _, err := a.agents.Revoke(t.Context(), "ci", "test", ""); err != nil {
		t.Fatal(err)
	}
	if got := who(t, a.client(ci), a.address); got != agent.ReasonRevoked {
		t.Errorf("revoked: %s", got)
	}
}

func TestWhoCallsByOIDC(t *testing.T) {
	a := serveAccess(t)
	p := a.provider
	now := time.Now()
	good := p.claimsAt(now)
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	hmac := jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "one"}}
	stranger := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: newAuthority(t).key, KeyID: "one"}}
	unlisted := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: rsaKey(t), KeyID: "one"}}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(p.sign(good, nil), ".")[1] + "."
	tampered := strings.Split(p.sign(good, nil), ".")
	tampered[1] = strings.Split(p.sign(good, map[string]any{"email": "root"}), ".")[1]
	for name, tt := range map[string]struct{ token, want string }{
		"good":            {p.sign(good, nil), "corp:alice@example.org exterior oidc corp:ops"},
		"one audience":    {p.sign(good, map[string]any{"aud": "sop-2", "roles": nil}), "corp:alice@example.org exterior oidc"},
		"one group":       {p.sign(good, map[string]any{"roles": "dev"}), "corp:alice@example.org exterior oidc corp:dev"},
		"mapped":          {p.sign(good, map[string]any{"email": "bob@example.org"}), "bob system oidc leads,corp:ops"},
		"a like name":     {p.sign(good, map[string]any{"email": "corp:bob@example.org"}), "corp:corp:bob@example.org exterior oidc corp:ops"},
		"within leeway":   {p.sign(good, map[string]any{"exp": at(-20 * time.Second), "nbf": at(20 * time.Second)}), "corp:alice@example.org exterior oidc corp:ops"},
		"expired":         {p.sign(good, map[string]any{"exp": at(-time.Minute)}), reasonTokenEnd},
		"not yet":         {p.sign(good, map[string]any{"nbf": at(2 * time.Minute)}), reasonTokenEnd},
		"from the future": {p.sign(good, map[string]any{"iat": at(2 * time.Minute)}), reasonTokenEnd},
		"without end":     {p.sign(good, map[string]any{"exp": nil}), reasonTokenBad},
		"wrong audience":  {p.sign(good, map[string]any{"aud": "other"}), reasonTokenBad},
		"no audience":     {p.sign(good, map[string]any{"aud": nil}), reasonTokenBad},
		"wrong issuer":    {p.sign(good, map[string]any{"iss": "https://login.example.org"}), reasonIssuer},
		"no issuer":       {p.sign(good, map[string]any{"iss": nil}), reasonTokenBad},
		"no name":         {p.sign(good, map[string]any{"email": nil}), reasonTokenBad},
		"a name of lines": {p.sign(good, map[string]any{"email": "a\nb"}), reasonTokenBad},
		"bad groups":      {p.sign(good, map[string]any{"roles": []any{1}}), reasonTokenBad},
		"symmetric":       {p.signWith(hmac, good, nil), reasonTokenBad},
		"other algorithm": {p.signWith(unlisted, good, nil), reasonTokenBad},
		"none":            {none, reasonTokenBad},
		"wrong key":       {p.signWith(stranger, good, nil), reasonTokenBad},
		"tampered":        {strings.Join(tampered, "."), reasonTokenBad},
		"large":           {p.sign(good, map[string]any{"x": strings.Repeat("x", maxCredential)}), reasonMalformed},
	} {
		if got := who(t, a.client(nil), a.address, "Bearer "+tt.token); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		a.forgive()
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
}

// A host starts while an issuer is down, says so, refuses its tokens as a thing
// to try again, and takes them once it is there; a new key is found in time.
func TestIssuerComesAndGoes(t *testing.T) {
	p := newProvider(t)
	p.down.Store(true)
	i, err := NewIssuer(p.config())
	if err != nil {
		t.Fatal(err)
	}
	defer i.client.CloseIdleConnections()
	now := time.Now()
	token := p.sign(p.claimsAt(now), nil)
	if err := i.refresh(t.Context()); err == nil || i.Problem() == nil || !strings.Contains(i.Problem().Error(), "503") {
		t.Errorf("%v, %v", err, i.Problem())
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = i.verify(short, token, now)
	if err := wireError(err); tokenReason(t, err) != reasonIssuerDown || connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	p.down.Store(false)
	if err := i.refresh(t.Context()); err != nil || i.Problem() != nil {
		t.Fatalf("%v, %v", err, i.Problem())
	}
	if c, err := i.verify(t.Context(), token, now); err != nil || c.Name != "corp:alice@example.org" {
		t.Errorf("%+v, %v", c, err)
	}
	p.down.Store(true) // keys that are known go on
	if err := i.refresh(t.Context()); err == nil {
		t.Error("it is not down")
	}
	if _, err := i.verify(t.Context(), token, now); err != nil {
		t.Errorf("got %v", err)
	}
	p.down.Store(false)
	p.addKey("two")
	p.mu.Lock()
	second := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.keys["two"], KeyID: "two"}}
	p.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		<-i.asked // as Run does
		done <- i.refresh(t.Context())
	}()
	if _, err := i.verify(t.Context(), p.signWith(second, p.claimsAt(now), nil), now); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// A key that cannot be read yet may be good; one that is not there, or not any
	// more, is not.
	third := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: newAuthority(t).key, KeyID: "three"}}
	waits := func(what string) {
		t.Helper()
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := i.verify(short, p.signWith(third, p.claimsAt(now), nil), now)
		if e := sdk.FromError(err); e.Reason != reasonIssuerDown || !e.Retryable || e.RetryAfter <= 0 || e.RetryAfter > oidcRetry+time.Second {
			t.Errorf("%s: %+v", what, e)
		}
	}
	waits("read a moment ago")
	p.down.Store(true)
	if err := i.refresh(t.Context()); err == nil {
		t.Error("it is not down")
	}
	waits("the issuer is down")
	p.down.Store(false)
	<-i.asked
	go func() {
		<-i.asked
		done <- i.refresh(t.Context())
	}()
	if _, err := i.verify(t.Context(), p.signWith(third, p.claimsAt(now), nil), now); sdk.FromError(err).Reason != reasonTokenBad {
		t.Errorf("a key that is not there: %v", err)
	}
	p.mu.Lock()
	delete(p.keys, "two")
	p.mu.Unlock()
	if err := errors.Join(<-done, i.refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := i.verify(t.Context(), p.signWith(second, p.claimsAt(now), nil), now); sdk.FromError(err).Reason != reasonTokenBad {
		t.Errorf("a key that is gone: %v", err)
	}
}

// Whoever names keys that nobody knows is no guesser, and is held to the calls of one
// whom nobody knows.
func TestUnknownKeysAreNoGuesses(t *testing.T) {
	a := serveAccess(t)
	a.server.limiter.limits = func() Limits { return Limits{RequestsPerSecond: 0.001, Burst: 30, MaxStreams: 1} }
	for range maxOIDCWaiting {
		a.issuer.waiting <- struct{}{} // nobody else waits
	}
	unknown := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: newAuthority(t).key, KeyID: "unknown"}}
	token := "Bearer " + a.provider.signWith(unknown, a.provider.claimsAt(time.Now()), nil)
	got := make(map[string]int)
	for range 32 {
		got[who(t, a.client(nil), a.address, token)]++
	}
	if got[reasonIssuerDown] != 30 || got["RATE_LIMITED"] != 2 {
		t.Errorf("got %v", got)
	}
	if got := who(t, a.client(nil), a.address, "Bearer "+a.provider.sign(a.provider.claimsAt(time.Now()), nil)); !strings.HasPrefix(got, "corp:alice") {
		t.Errorf("a good token from there: %s", got)
	}
}

// The keys of an issuer are read regularly, and an unknown key does not make
// them be read all the time.
func TestKeysAreReadInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &Issuer{cfg: config.OIDC{Issuer: "https://issuer.invalid"}, asked: make(chan struct{}, 1), news: make(chan struct{})}
		tries := 0
		i.client = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			tries++
			return nil, errors.New("down")
		})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		told := 0
		go func() {
			defer close(done)
			i.Run(ctx, func(error) { told++ })
		}()
		time.Sleep(10*oidcRetry + time.Second)
		for range 100 {
			i.asked <- struct{}{}
			<-i.asked
		}
		synctest.Wait()
		if tries != 11 || told != 1 {
			t.Errorf("tried %d times, told %d times", tries, told)
		}
		cancel()
		<-done
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Who presents what is wrong too often has to wait, longer each time, and it
// does not help to present what is right in between. Others need not wait.
func TestBruteForceIsSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &fakeLog{}
		db, err := store.OpenMemory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }() // nothing is left in it
		hostKey, err := agent.NewHostKey()
		if err != nil {
			t.Fatal(err)
		}
		agents, err := agent.NewService(t.Context(), db.Agents(), agent.Options{Key: hostKey})
		if err != nil {
			t.Fatal(err)
		}
		k, _, err := agents.Enroll(t.Context(), agent.Spec{Name: "a"})
		if err != nil {
			t.Fatal(err)
		}
		authn := newAuthenticator(&nexus.Nexus{Agents: agents, Audit: log, Logger: hclog.NewNullLogger()})
		handler := authn.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
		try := func(from, key string) int {
			ctx := context.WithValue(t.Context(), connectionKey{}, connection{source: from})
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
			r.Header.Set("Authorization", "Bearer "+key)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w.Code
		}
		for n := range 21 {
			if got := try("10.0.0.1", "wrong"); got != http.StatusUnauthorized {
				t.Fatalf("try %d: %d", n, got)
			}
		}
		for range 50 {
			if got := try("10.0.0.1", k.Reveal()); got != http.StatusTooManyRequests {
				t.Fatalf("not slowed: %d", got)
			}
		}
		if got := try("10.0.0.2", k.Reveal()); got != http.StatusOK {
			t.Errorf("another source: %d", got)
		}
		time.Sleep(time.Second)
		if got := try("10.0.0.1", "wrong"); got != http.StatusUnauthorized {
			t.Errorf("after the wait: %d", got)
		}
		time.Sleep(time.Second)
		if got := try("10.0.0.1", k.Reveal()); got != http.StatusTooManyRequests {
			t.Errorf("the second wait is no longer than the first: %d", got)
		}
		time.Sleep(time.Second)
		if got := try("10.0.0.1", k.Reveal()); got != http.StatusOK {
			t.Errorf("after the second wait: %d", got)
		}
		records := log.all()
		if len(records) != 22 || records[21].Attributes["turned_away"] != "50" {
			t.Errorf("%d records, the last %+v", len(records), records[len(records)-1])
		}
	})
}

// Certificates that change are shown; a bad pair leaves the old one in force.
func TestCertificatesAreReadAgain(t *testing.T) {
	a := serveAccess(t)
	shown := func() string {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(a.hosts.cert)
		conn, err := tls.Dial("tcp", strings.TrimPrefix(a.address, "https://"), &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		state := conn.ConnectionState()
		if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" {
			t.Errorf("%x, %s", state.Version, state.NegotiatedProtocol)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	if taken, err := a.certs.Reread(); taken || err != nil {
		t.Errorf("unchanged: %v, %v", taken, err)
	}
	next := a.issueHost()
	write(t, a.tlsDir, map[string][]byte{"host.pem": next.pem()}) // and not yet its key
	if taken, err := a.certs.Reread(); taken || err == nil || a.certs.Problem() == nil || shown() != first {
		t.Errorf("a bad pair: %v, %v", taken, err)
	}
	if taken, err := a.certs.Reread(); taken || err != nil || a.certs.Problem() == nil {
		t.Errorf("the same bad pair: %v, %v", taken, err)
	}
	write(t, a.tlsDir, map[string][]byte{"host.key": next.keyPEM(t)})
	if taken, err := a.certs.Reread(); !taken || err != nil || a.certs.Problem() != nil || shown() != next.cert.SerialNumber.String() {
		t.Errorf("the new pair: %v, %v", taken, err)
	}
	if err := os.Chmod(filepath.Join(a.tlsDir, "host.key"), 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := a.certs.Reread(); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("a key for everybody: %v", err)
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(a.address, "https://"), old); err == nil {
		t.Error("TLS 1.2 is spoken")
		_ = conn.Close()
	}
}

// Changes are noticed without anybody asking: files written in place, replaced,
// swapped by a link as in a mounted secret, and made readable by everybody.
func TestCertificatesAreWatched(t *testing.T) {
	a := serveAccess(t)
	ctx, stop := context.WithCancel(t.Context())
	changed, done := make(chan error, 16), make(chan struct{})
	go func() {
		defer close(done)
		a.certs.Watch(ctx, func(err error) { changed <- err }, func(err error) { t.Errorf("not watched: %v", err) })
	}()
	defer func() {
		stop()
		<-done
	}()
	await := func(what string, good bool) {
		t.Helper()
		for deadline := time.After(20 * time.Second); ; {
			select {
			case err := <-changed:
				if (err == nil) == good { // files that do not fit yet are told of, too
					return
				}
			case <-deadline:
				t.Fatalf("not noticed: %s", what)
			}
		}
	}
	next := a.issueHost()
	write(t, a.tlsDir, map[string][]byte{"host.pem": next.pem(), "host.key": next.keyPEM(t)})
	await("files are written", true)
	next = a.issueHost()
	write(t, a.tlsDir, map[string][]byte{"new.pem": next.pem(), "new.key": next.keyPEM(t)})
	for _, name := range []string{".pem", ".key"} {
		if err := os.Rename(filepath.Join(a.tlsDir, "new"+name), filepath.Join(a.tlsDir, "host"+name)); err != nil {
			t.Fatal(err)
		}
	}
	await("files are replaced", true)
	if err := os.Chmod(filepath.Join(a.tlsDir, "host.key"), 0o604); err != nil {
		t.Fatal(err)
	}
	await("everybody can read the key", false)
}

func TestSources(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::/64", "[fe80::1%eth0]:5": "fe80::/64",
	} {
		addr, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := sourceOf(addr); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer x", "Bearer  x ", "Bearer a.b.c", "bearer", "Basic x", "Bearer a,b", "Bearer \x00", "Bearer " + strings.Repeat("x", maxCredential+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		credential, err := bearerOf([]string{header})
		switch {
		case err == nil && (credential == "" || len(credential) > maxCredential || strings.ContainsAny(credential, " ,\t\r\n") || !strings.Contains(header, credential)):
			t.Errorf("took %q of %q", credential, header)
		case err != nil && credential != "":
			t.Error("an error with a credential")
		case err == nil:
			if _, err := claimedIssuer(credential); err != nil && len(credential) > 20 && strings.Contains(err.Error(), credential) {
				t.Error("the credential is in the error")
			}
		}
	})
}
