package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// authority issues certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.pem, _, a.key = a.sign(template, nil)
	block, _ := pem.Decode(a.pem)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = cert
	return a
}

// sign issues a certificate with a new key; without an authority it is its own.
func (a *authority) sign(template *x509.Certificate, by *authority) (cert, key []byte, private *ecdsa.PrivateKey) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, private
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), private
}

// issue writes a certificate and its key to files.
func (a *authority) issue(s *site, name string, template *x509.Certificate) {
	s.t.Helper()
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	cert, key, _ := a.sign(template, a)
	s.put(filepath.Join(s.dir, name+".pem"), string(cert))
	if err := os.WriteFile(filepath.Join(s.dir, name+".key"), key, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (a *authority) issueHost(s *site) {
	a.issue(s, "host", &x509.Certificate{Subject: pkix.Name{CommonName: "host"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

// caller calls the host by TCP as plain HTTP with JSON, as curl would.
type caller struct {
	t       *testing.T
	address string
	key     string
	tls     *tls.Config
}

// call returns the status and the decoded answer.
func (c caller) call(method string) (int, map[string]any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address+"/sop.api.v1."+method, strings.NewReader("{}"))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	transport := &http.Transport{TLSClientConfig: c.tls}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, map[string]any{"error": err.Error()}
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		c.t.Fatalf("%s: %s: %v", resp.Status, body, err)
	}
	return resp.StatusCode, answer
}

// want asserts the status, and that the answer holds some texts.
func (c caller) want(method string, status int, texts ...string) {
	c.t.Helper()
	got, answer := c.call(method)
	text := fmt.Sprint(answer)
	ok := got == status
	for _, part := range texts {
		ok = ok && strings.Contains(text, part)
	}
	if !ok {
		c.t.Errorf("%s: %d %s, want %d with %q", method, got, text, status, texts)
	}
}

const accessBlocks = `
api {
  listen = "127.0.0.1:0"
  tls {
    cert      = "host.pem"
    key       = "host.key"
    client_ca = "clients.pem"
  }
}

agent "ci" {
  groups = ["builders"]
  spiffe = "spiffe://example.org/ci"
}
`

// startTLS starts a host that listens on TCP and returns where.
func (s *site) startTLS() (*host, string) {
	s.t.Helper()
	h := s.start()
	var address string
	h.await("an address", func(l line) bool {
		if l.Component == "api" && strings.HasPrefix(l.Detail, "https://") {
			address = l.Detail
		}
		return address != ""
	})
	h.waitUp()
	return h, address
}

// TestAgentsByTLS enrolls an agent that calls from elsewhere, as curl would, and
// takes its rights away.
func TestAgentsByTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hosts, clients := newAuthority(t, "hosts"), newAuthority(t, "clients")
	hosts.issueHost(s)
	clients.issue(s, "ci", &x509.Certificate{Subject: pkix.Name{CommonName: "ci"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/ci"}}})
	clients.issue(s, "stray", &x509.Certificate{Subject: pkix.Name{CommonName: "stray"}})
	hosts.issue(s, "foreign", &x509.Certificate{Subject: pkix.Name{CommonName: "foreign"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/ci"}}})
	s.put(filepath.Join(s.dir, "clients.pem"), string(clients.pem))
	s.put(filepath.Join(s.dir, "hosts.pem"), string(hosts.pem))
	s.configure(accessBlocks)
	s.lock()
	h, address := s.startTLS()

	roots := x509.NewCertPool()
	roots.AddCert(hosts.cert)
	anybody := caller{t: t, address: address, tls: &tls.Config{RootCAs: roots}}
	anybody.want("Agent/WhoAmI", 401, "unauthenticated")
	anybody.want("Host/GetStatus", 401, "unauthenticated")

	key := strings.TrimSpace(s.must(0, "agent", "enroll", "agent-7", "--group", "night", "--config", s.conf).stdout)
	agent := anybody
	agent.key = key
	agent.want("Agent/WhoAmI", 200, "name:agent-7", "trust:exterior", "method:key", "night", "source:127.0.0.1")
	agent.want("Agent/EnrollAgent", 403)
	wrong := anybody
	wrong.key = key[:len(key)-1] + "~"
	wrong.want("Agent/WhoAmI", 401, "KEY_MALFORMED")

	keyFile := filepath.Join(s.dir, "agent-7.key")
	s.put(keyFile, key+"\n")
	cli := []string{"--address", address, "--ca", filepath.Join(s.dir, "hosts.pem")}
	if r := s.must(0, append(cli, "agent", "whoami", "--credential-file", keyFile)...); !strings.HasPrefix(r.stdout, "agent-7, exterior agent, by key from 127.0.0.1\n") {
		t.Errorf("%v", r)
	}
	s.must(4, append(cli, "agent", "list", "--credential-file", keyFile)...)
	s.must(1, "agent", "whoami", "--address", address, "--credential-file", keyFile) // nobody vouches for the host
	root := filepath.Join(s.data, "state", "root.credential")
	if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root credential: %v, %v", info, err)
	}
	s.must(0, append(cli, "status", "--credential-file", root)...)

	// Certificates of clients.
	for name, want := range map[string]struct {
		status int
		text   string
	}{"ci": {200, "name:ci"}, "stray": {401, "CERTIFICATE_UNMAPPED"}, "foreign": {401, "CERTIFICATE_INVALID"}} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, name+".pem"), filepath.Join(s.dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		c := anybody
		c.tls = &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
		c.want("Agent/WhoAmI", want.status, want.text)
	}

	// A rotation with grace, and a revocation at once.
	second := strings.TrimSpace(s.must(0, "agent", "rotate", "agent-7", "--grace", "1h", "--config", s.conf).stdout)
	agent.want("Agent/WhoAmI", 200, "agent-7")
	agent.key = second
	agent.want("Agent/WhoAmI", 200, "agent-7")
	s.must(0, "agent", "revoke", "agent-7", "--config", s.conf)
	agent.want("Agent/WhoAmI", 401, "AGENT_REVOKED")
	agent.key = key
	agent.want("Agent/WhoAmI", 401, "AGENT_REVOKED")
	s.must(6, "agent", "enroll", "agent-7", "--config", s.conf)
	old := strings.TrimSpace(s.read(root))
	s.must(0, "agent", "rotate", "root", "--config", s.conf)
	agent.key = old
	agent.want("Agent/WhoAmI", 401, "KEY_ROTATED")
	s.must(0, append(cli, "status", "--credential-file", root)...)

	// Certificates are read again when they change.
	others := newAuthority(t, "others")
	others.issueHost(s)
	roots = x509.NewCertPool()
	roots.AddCert(others.cert)
	agent.tls, agent.key = &tls.Config{RootCAs: roots}, strings.TrimSpace(s.read(root))
	if !eventually(patience, func() bool { status, _ := agent.call("Agent/WhoAmI"); return status == 200 }) {
		t.Error("the new certificate is not shown")
	}
	s.must(0, "audit", "verify", "--config", s.conf)
	h.stop()
	noSecrets(t, s, key, second, old, agent.key)
}

// noSecrets asserts that what the host writes holds no key, but for the file
// that is made to hold one.
func noSecrets(t *testing.T, s *site, keys ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Base(path) == "root.credential" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, k := range keys {
			if k == "" || bytes.Contains(content, []byte(k)) || bytes.Contains(content, []byte(k[len(k)-40:])) {
				t.Errorf("%s holds a key", path)
			}
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("%d files were looked at: %v", files, err)
	}
}

// An exterior agent uses what it was given, is told no reason where it is
// refused, and looks after no tokens; the record has the reason, and an operator
// sees and ends the token by its accessor.
func TestExteriorAgentAndItsToken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure()
	s.lock()
	h := s.up()
	key := filepath.Join(s.dir, "agent-7.key")
	if err := os.WriteFile(key, []byte(s.must(0, "agent", "enroll", "agent-7", "--config", s.conf).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	issue := func(requester string, args ...string) (file, accessor string) {
		issued := decode[struct {
			Secret string
			Token  struct{ Accessor string }
		}](t, s.must(0, append([]string{"token", "issue", "--type", "test", "--operation", "try", "--requester", requester, "--config", s.conf, "-o", "json"}, args...)...))
		file = filepath.Join(s.dir, issued.Token.Accessor)
		s.put(file, issued.Secret)
		return file, issued.Token.Accessor
	}
	as := func(code int, args ...string) result {
		return s.must(code, append(args, "--credential-file", key, "--config", s.conf)...)
	}
	mine, accessor := issue("agent-7", "--uses", "3")
	if r := as(0, "token", "consume", mine, "--operation", "try", "--check"); !strings.Contains(r.stderr, "would be taken") {
		t.Errorf("%v", r)
	}
	if r := as(0, "token", "consume", mine, "--operation", "try", "--idempotency-key", "k"); !strings.Contains(r.stdout, "2 uses left") {
		t.Errorf("%v", r)
	}
	if r := as(0, "token", "consume", mine, "--operation", "try", "--idempotency-key", "k"); !strings.Contains(r.stdout, "2 uses left") {
		t.Errorf("a retry counted: %v", r)
	}
	theirs, _ := issue("agent-8")
	late, _ := issue("agent-7", "--from", "1h")
	for reason, args := range map[string][]string{
		"TOKEN_WRONG_OPERATION": {mine, "--operation", "other"}, "TOKEN_WRONG_AGENT": {theirs, "--operation", "try"},
		"TOKEN_NOT_YET": {late, "--operation", "try"}, "TOKEN_MALFORMED": {s.conf, "--operation", "try"},
	} {
		if r := as(4, append([]string{"token", "consume", "-o", "json"}, args...)...); !strings.Contains(r.stderr, `"TOKEN_DENIED"`) || strings.Contains(r.stderr, reason) {
			t.Errorf("%s: %v", reason, r)
		}
		if records := s.must(0, "audit", "search", "--filter", "reason = "+reason, "--config", s.conf, "-o", "json").stdout; !strings.Contains(records, `"agent-7"`) {
			t.Errorf("%s is not recorded: %s", reason, records)
		}
	}
	for _, args := range [][]string{{"list"}, {"show", accessor}, {"revoke", accessor}, {"renew", accessor}, {"issue", "--type", "test", "--operation", "*"}} {
		as(4, append([]string{"token"}, args...)...)
	}
	if r := s.must(0, "token", "show", accessor, "--config", s.conf); !strings.Contains(r.stdout, "2 of 3 left") {
		t.Errorf("refusals cost uses: %v", r)
	}
	s.must(0, "token", "revoke", accessor, "--reason", "left on a pastebin", "--config", s.conf)
	if r := s.must(0, "token", "revoke", accessor, "--reason", "again", "--config", s.conf); r.stdout != "token "+accessor+" had ended before: revoked, left on a pastebin\n" {
		t.Errorf("%v", r)
	}
	as(4, "token", "validate", mine)

	// What it holds ends with it, whoever speaks for it, and so does what came from that.
	held, _ := issue("agent-7", "--uses", "2")
	child := filepath.Join(s.dir, "child")
	s.put(child, as(0, "token", "child", held, "--requester", "agent-9").stdout)
	if r := s.must(0, "agent", "revoke", "agent-7", "--config", s.conf); r.stdout != "revoked agent agent-7, which ended 3 tokens and gave back 0 tasks\n" {
		t.Errorf("%v", r)
	}
	for file, requester := range map[string]string{held: "agent-7", child: "agent-9"} {
		if r := s.must(4, "token", "consume", file, "--operation", "try", "--requester", requester, "--config", s.conf, "-o", "json"); !strings.Contains(r.stderr, "TOKEN_REVOKED") {
			t.Errorf("%v", r)
		}
	}
	s.must(0, "token", "consume", theirs, "--operation", "try", "--requester", "agent-8", "--config", s.conf)
	if r := s.must(1, "token", "issue", "--type", "test", "--operation", "try", "--requester", "agent-7", "--config", s.conf, "-o", "json"); !strings.Contains(r.stderr, "TOKEN_HOLDER_REVOKED") {
		t.Errorf("%v", r)
	}
	h.stop()
}

// TestAPIReload swaps, refuses and ends the listener while the host runs.
func TestAPIReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hosts := newAuthority(t, "hosts")
	hosts.issueHost(s)
	s.put(filepath.Join(s.dir, "clients.pem"), string(hosts.pem))
	s.configure()
	s.lock()
	h := s.start()
	h.waitUp()
	refused := func(config, want string) {
		t.Helper()
		s.put(s.conf, s.config(config))
		status := h.waitFor(want, func(st *apiv1.Status) bool {
			for _, d := range st.GetLastReload().GetDiagnostics() {
				if strings.Contains(d.GetText(), want) && d.GetLine() > 0 {
					return true
				}
			}
			return false
		})
		if status.GetState() != "degraded" {
			t.Errorf("%s: the state is %s", want, status.GetState())
		}
	}
	refused("api {\n  listen = \"127.0.0.1:0\"\n}\n", "TLS is missing")
	refused(strings.Replace(accessBlocks, `"host.pem"`, `"clients.pem"`, 1), "The certificates cannot be used")

	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }() // nobody called
	at := strings.Replace(accessBlocks, "127.0.0.1:0", busy.Addr().String(), 1)
	refused(at, "The API cannot be served there")
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	s.must(0, "reload", "--config", s.conf)
	roots := x509.NewCertPool()
	roots.AddCert(hosts.cert)
	c := caller{t: t, address: "https://" + busy.Addr().String(), tls: &tls.Config{RootCAs: roots}, key: strings.TrimSpace(s.read(filepath.Join(s.data, "state", "root.credential")))}
	c.want("Agent/WhoAmI", 200, "name:root", "trust:system")
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	refused(strings.Replace(accessBlocks, "127.0.0.1:0", "0.0.0.0:"+port, 1), "change to another port first")
	c.want("Agent/WhoAmI", 200, "name:root") // where it was
	s.configure()
	s.must(0, "reload", "--config", s.conf)
	if !eventually(patience, func() bool { status, _ := c.call("Agent/WhoAmI"); return status == 0 }) {
		t.Error("it still listens")
	}
}

// TestSocketForOthers lets another user of the machine call as an agent, and
// starts while an issuer of tokens is down.
func TestSocketForOthers(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can run sop as somebody else")
	}
	s := newSite(t)
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.configure(fmt.Sprintf("api {\n  socket_mode = \"0666\"\n}\n\nagent \"guest\" {\n  uid = %d\n}\n\noidc \"corp\" {\n  issuer   = \"https://127.0.0.1:1\"\n  audience = [\"sop\"]\n}\n", nobody))
	s.lock()
	h := s.start()
	h.waitUp()
	h.waitFor("an issuer that is down", func(st *apiv1.Status) bool {
		return strings.Contains(strings.Join(st.GetReasons(), "\n"), "the keys of OIDC issuer corp cannot be read")
	})
	guest := *s
	guest.as = &syscall.Credential{Uid: nobody, Gid: nobody}
	if r := guest.must(0, "agent", "whoami", "--socket", s.socket()); !strings.HasPrefix(r.stdout, "guest, exterior agent, by peer from uid:65534\n") {
		t.Errorf("%v", r)
	}
	guest.must(4, "agent", "list", "--socket", s.socket())
	// By the group of the socket: whoever is in it, and nobody else.
	members := fmt.Sprintf("api {\n  socket_mode  = \"0660\"\n  socket_group = %q\n}\n\nagent \"guest\" {\n  uid = %d\n}\n", groupName(t), nobody)
	s.configure(members)
	s.must(0, "reload", "--config", s.conf)
	guest.must(4, "agent", "whoami", "--socket", s.socket())
	member := *s
	member.as = &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{socketGroup}}
	if r := member.must(0, "agent", "whoami", "--socket", s.socket()); !strings.HasPrefix(r.stdout, "guest, exterior agent, by peer from uid:65534\n") {
		t.Errorf("%v", r)
	}
	member.must(4, "agent", "list", "--socket", s.socket())
	if info, err := os.Stat(s.socket()); err != nil || info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != socketGroup {
		t.Errorf("the socket: %v, %v", info, err)
	}

	s.configure()
	s.must(0, "reload", "--config", s.conf)
	guest.must(4, "agent", "whoami", "--socket", s.socket())
	member.must(4, "agent", "whoami", "--socket", s.socket()) // it cannot connect any more
	for _, dir := range []string{s.data, filepath.Dir(s.socket())} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
}

// socketGroup is a group that every Linux system has, and nobody is in.
const socketGroup = 1

// groupName is what this machine calls socketGroup.
func groupName(t *testing.T) string {
	t.Helper()
	group, err := user.LookupGroupId(strconv.Itoa(socketGroup))
	if err != nil {
		t.Fatal(err)
	}
	return group.Name
}
