package api

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sop-host/sop/host/internal/config"
)

// provider is an OIDC issuer with keys of its own.
type provider struct {
	t      *testing.T
	server *httptest.Server
	ca     string
	down   atomic.Bool
	asked  atomic.Int64 // for its keys

	mu   sync.Mutex
	keys map[string]crypto.Signer
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{t: t, keys: make(map[string]crypto.Signer)}
	p.addKey("one")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if p.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		var set jose.JSONWebKeySet
		for id, k := range p.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig"})
		}
		all := []any{map[string]string{"kty": "weird"}, map[string]string{"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA"}}
		for _, k := range set.Keys {
			all = append(all, k)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": all})
	})
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
	if err := os.WriteFile(p.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) addKey(id string) {
	p.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[id] = k
}

func (p *provider) config() config.OIDC {
	return config.OIDC{
		Name: "corp", Issuer: p.server.URL, Audience: []string{"sop", "sop-2"}, Algorithms: []string{"ES256"}, Trust: "exterior",
		NameClaim: "email", GroupsClaim: "roles", Leeway: 30 * time.Second, CA: p.ca,
	}
}

// claimsAt are good ones.
func (p *provider) claimsAt(now time.Time) map[string]any {
	return map[string]any{
		"iss": p.server.URL, "aud": []string{"other", "sop"}, "sub": "1", "email": "alice@example.org", "roles": []string{"ops"},
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
}

// sign makes a token of claims, some of which are changed; nil takes one away.
func (p *provider) sign(claims, change map[string]any) string {
	p.t.Helper()
	p.mu.Lock()
	key := p.keys["one"]
	p.mu.Unlock()
	return p.signWith(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, claims, change)
}

func (p *provider) signWith(key jose.SigningKey, claims, change map[string]any) string {
	p.t.Helper()
	claims = maps.Clone(claims)
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
