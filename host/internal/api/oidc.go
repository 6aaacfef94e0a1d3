package api

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/nexus"
)

// Issuer is an OpenID Connect issuer whose tokens prove who calls. Its keys are
// read in the background: the host needs the issuer neither to start nor, once
// it has the keys, to go on.
type Issuer struct {
	cfg      config.OIDC
	client   *http.Client
	verifier *oidc.IDTokenVerifier
	asked    chan struct{} // someone wants the keys read again
	waiting  chan struct{} // has room for those who wait for that

	mu     sync.Mutex
	keys   []jose.JSONWebKey
	gone   map[string]bool // ids of keys that the issuer has taken back
	tried  time.Time       // when the last reading began
	read   time.Time       // when the last one that succeeded began
	failed error           // why the last reading did
	news   chan struct{}   // closed when a reading has ended
}

const (
	oidcDeadline    = 10 * time.Second // of one reading
	oidcRefresh     = 5 * time.Minute
	oidcRetry       = 10 * time.Second // after a failure, and at most so often for unknown keys
	oidcPatience    = 3 * time.Second  // of a call whose key is unknown
	maxKeysAge      = 24 * time.Hour   // for which an issuer may be unreachable
	maxOIDCDocument = 1 << 20          // bytes
	maxOIDCKeys     = 100
	maxOIDCGone     = 1000
	maxOIDCWaiting  = 256 // calls; further ones are told to come again at once
	maxOIDCGroups   = 64
	maxOIDCName     = 200 // bytes
)

// NewIssuer returns the issuer; Run reads its keys.
func NewIssuer(cfg config.OIDC) (*Issuer, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: idleTimeout}
	if cfg.CA != "" {
		roots, err := loadRoots(cfg.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = clientTLS(roots)
	}
	i := &Issuer{
		cfg: cfg, asked: make(chan struct{}, 1), waiting: make(chan struct{}, maxOIDCWaiting), news: make(chan struct{}),
		client: &http.Client{Transport: transport, Timeout: oidcDeadline, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
	i.verifier = oidc.NewVerifier(cfg.Issuer, i, &oidc.Config{
		SupportedSigningAlgs: cfg.Algorithms, SkipClientIDCheck: true, SkipExpiryCheck: true, // both are checked below
	})
	return i, nil
}

// Same says that the issuer is configured as cfg says.
func (i *Issuer) Same(cfg *config.OIDC) bool { return i.cfg.Equal(cfg) }

// Name is that of its block.
func (i *Issuer) Name() string { return i.cfg.Name }

// Run keeps the issuer's keys until ctx is done. It tells report why they cannot
// be read, once for each different reason, and nil when they can again.
func (i *Issuer) Run(ctx context.Context, report func(error)) {
	defer i.client.CloseIdleConnections()
	var told string
	for {
		err := i.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != told {
			told = text
			report(err)
		}
		if !i.rest(ctx, err) {
			return
		}
	}
}

// rest waits until the keys are to be read again, and says whether they are.
func (i *Issuer) rest(ctx context.Context, failed error) bool {
	least := time.NewTimer(oidcRetry)
	defer least.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-least.C:
	}
	if failed != nil {
		return true
	}
	more := time.NewTimer(oidcRefresh - oidcRetry)
	defer more.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-more.C:
	case <-i.asked:
	}
	return true
}

// refresh reads the keys once.
func (i *Issuer) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, oidcDeadline)
	defer cancel()
	began := time.Now()
	i.mu.Lock()
	i.tried = began
	i.mu.Unlock()
	keys, err := i.fetchKeys(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failed = err; err == nil {
		i.replace(keys)
		i.read = began
	}
	close(i.news)
	i.news = make(chan struct{})
	return err
}

// replace takes keys over, and remembers which are gone. i.mu is held.
func (i *Issuer) replace(keys []jose.JSONWebKey) {
	if i.gone == nil || len(i.gone) > maxOIDCGone {
		i.gone = make(map[string]bool)
	}
	for _, k := range i.keys {
		i.gone[k.KeyID] = true
	}
	for _, k := range keys {
		delete(i.gone, k.KeyID)
	}
	i.keys = keys
}

func (i *Issuer) fetchKeys(ctx context.Context) ([]jose.JSONWebKey, error) {
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := i.fetch(ctx, strings.TrimSuffix(i.cfg.Issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return nil, err
	}
	if about.Issuer != i.cfg.Issuer {
		return nil, errors.New("it calls itself by another name: the issuer in the configuration must be exactly the one in its discovery document")
	}
	if err := config.CheckIssuer(about.Keys); err != nil {
		return nil, fmt.Errorf("its jwks_uri: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.fetch(ctx, about.Keys, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxOIDCKeys {
		return nil, fmt.Errorf("it has more than %d keys", maxOIDCKeys)
	}
	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(text, &k) != nil {
			continue // of a kind that is not known here, as RFC 7517 wants it
		}
		if k.Valid() && k.IsPublic() && (k.Use == "" || k.Use == "sig") {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no public key for signatures")
	}
	return keys, nil
}

func (i *Issuer) fetch(ctx context.Context, from string, into any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", req.URL.Path, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxOIDCDocument+1))
	if err != nil {
		return err
	}
	if len(body) > maxOIDCDocument {
		return fmt.Errorf("%s is larger than 1 MiB", req.URL.Path)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s is not what it should be: %w", req.URL.Path, err)
	}
	return nil
}

// Problem returns why tokens of the issuer may be refused though they are good,
// or nil.
func (i *Issuer) Problem() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failed == nil {
		return nil
	}
	return fmt.Errorf("the keys of OIDC issuer %s cannot be read: %w", i.cfg.Name, i.failed)
}

// VerifySignature implements [oidc.KeySet].
func (i *Issuer) VerifySignature(_ context.Context, token string) ([]byte, error) {
	signed, err := i.parse(token)
	if err != nil {
		return nil, err
	}
	keys := i.known(signed.Signatures[0].Header.KeyID)
	for n := range keys {
		if payload, err := signed.Verify(&keys[n]); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer has signed it")
}

func (i *Issuer) parse(token string) (*jose.JSONWebSignature, error) {
	algorithms := make([]jose.SignatureAlgorithm, len(i.cfg.Algorithms))
	for n, a := range i.cfg.Algorithms {
		algorithms[n] = jose.SignatureAlgorithm(a)
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, errors.New("it is not one signed text")
	}
	return signed, nil
}

// await returns nil once it is known whether the issuer has the key that a token
// names. A key that is not known makes the keys be read again, but not more often
// than every 10 seconds; whoever's token must wait for that, or for an issuer that
// does not answer, is told to come again: it may be good.
func (i *Issuer) await(ctx context.Context, token string) error {
	signed, err := i.parse(token)
	if err != nil {
		return nil //nolint:nilerr // whoever looks at the signature says so
	}
	id, asked := signed.Signatures[0].Header.KeyID, time.Now()
	settled, news := i.settled(id, asked)
	if !settled {
		select {
		case i.asked <- struct{}{}:
		default:
		}
		i.wait(ctx, news)
		settled, _ = i.settled(id, asked)
	}
	if err := i.unreadable(); err != nil {
		return err
	}
	if settled {
		return nil
	}
	i.mu.Lock()
	next := oidcRetry - time.Since(i.tried)
	i.mu.Unlock()
	return unavailable(reasonIssuerDown, "the key that signed the token was not read from OIDC issuer %s yet", i.cfg.Name).
		WithRemedy("try again; `sop status` says whether the issuer can be reached").RetryIn(max(next, 0).Round(time.Second) + time.Second)
}

// wait returns at the news, or soon.
func (i *Issuer) wait(ctx context.Context, news <-chan struct{}) {
	select {
	case i.waiting <- struct{}{}:
		defer func() { <-i.waiting }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, oidcPatience)
	defer cancel()
	select {
	case <-news:
	case <-ctx.Done():
	}
}

// settled says whether the issuer has a key with an id, or had none when it was
// asked after a time, or has taken it back. The channel is closed when the keys have
// been read again.
func (i *Issuer) settled(id string, after time.Time) (bool, <-chan struct{}) {
	known := len(i.known(id)) > 0
	i.mu.Lock()
	defer i.mu.Unlock()
	return known || i.gone[id] || i.read.After(after), i.news
}

// known returns the keys with an id, all of them when it is empty.
func (i *Issuer) known(id string) []jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []jose.JSONWebKey
	for _, k := range i.keys {
		if id == "" || k.KeyID == id {
			out = append(out, k)
		}
	}
	return out
}

// fresh says that there are keys, and that they are not too old.
func (i *Issuer) fresh() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.keys) > 0 && time.Since(i.read) < maxKeysAge
}

// claims are those that are looked at here.
type claims struct {
	Audience  audience `json:"aud"`
	Expiry    *float64 `json:"exp"`
	NotBefore *float64 `json:"nbf"`
	IssuedAt  *float64 `json:"iat"`
}

// audience is one text or several.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// verify returns who a token names, if it is good now.
func (i *Issuer) verify(ctx context.Context, text string, now time.Time) (nexus.Caller, error) {
	if err := i.await(ctx, text); err != nil {
		return nexus.Caller{}, err
	}
	token, err := i.verifier.Verify(ctx, text)
	if err != nil {
		e := refusal(reasonTokenBad, "the token is not one that issuer %s signed as the configuration wants", i.cfg.Name).
			WithRemedy("ask the issuer for a new token; the algorithms are %s", strings.Join(i.cfg.Algorithms, ", "))
		e.Cause = err
		return nexus.Caller{}, e
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return nexus.Caller{}, refusal(reasonTokenBad, "the token's claims are not what they should be")
	}
	if err := i.check(&c, now); err != nil {
		return nexus.Caller{}, err
	}
	var all map[string]any
	if err := token.Claims(&all); err != nil {
		return nexus.Caller{}, refusal(reasonTokenBad, "the token's claims are not what they should be")
	}
	return i.caller(all)
}

// unreadable returns an error where there is nothing to verify with.
func (i *Issuer) unreadable() error {
	if i.fresh() {
		return nil
	}
	return unavailable(reasonIssuerDown, "the keys of OIDC issuer %s could not be read", i.cfg.Name).
		WithRemedy("try again; `sop status` says what is wrong")
}

// check judges audience and times.
func (i *Issuer) check(c *claims, now time.Time) error {
	found := false
	for _, a := range c.Audience {
		for _, want := range i.cfg.Audience {
			found = found || a == want
		}
	}
	at := func(seconds *float64) time.Time { return time.Unix(int64(*seconds), 0) }
	switch {
	case !found:
		return refusal(reasonTokenBad, "the token is for another audience").WithRemedy("ask the issuer for one for %s", strings.Join(i.cfg.Audience, " or "))
	case c.Expiry == nil:
		return refusal(reasonTokenBad, "the token does not say when it expires")
	case !now.Before(at(c.Expiry).Add(i.cfg.Leeway)):
		return refusal(reasonTokenEnd, "the token has expired").WithRemedy("ask the issuer for a new one")
	case c.NotBefore != nil && now.Before(at(c.NotBefore).Add(-i.cfg.Leeway)),
		c.IssuedAt != nil && now.Before(at(c.IssuedAt).Add(-i.cfg.Leeway)):
		return refusal(reasonTokenEnd, "the token is not valid yet").WithRemedy("compare the clocks of the issuer and the host")
	}
	return nil
}

// caller makes the caller of claims. Its name and its groups begin with the name
// of the issuer's block, so that no issuer can speak of what is not its own.
func (i *Issuer) caller(all map[string]any) (nexus.Caller, error) {
	name, ok := all[i.cfg.NameClaim].(string)
	if !ok || !isOutsideName(name) {
		return nexus.Caller{}, refusal(reasonTokenBad, "the token's claim %s is no name", i.cfg.NameClaim).
			WithRemedy("set name_claim in the oidc block to a claim that holds one")
	}
	c := nexus.Caller{Name: i.cfg.Name + ":" + name, Trust: nexus.Trust(i.cfg.Trust), Method: nexus.MethodOIDC}
	groups, ok := textsOf(all[i.cfg.GroupsClaim])
	if !ok || len(groups) > maxOIDCGroups {
		return nexus.Caller{}, refusal(reasonTokenBad, "the token's claim %s is no list of at most %d groups", i.cfg.GroupsClaim, maxOIDCGroups).
			WithRemedy("set groups_claim in the oidc block to a claim that holds one")
	}
	for _, g := range groups {
		if !isOutsideName(g) {
			return nexus.Caller{}, refusal(reasonTokenBad, "the token names a group that is no name")
		}
		c.Groups = append(c.Groups, i.cfg.Name+":"+g)
	}
	return c, nil
}

// textsOf reads a claim that is absent, a text or a list of texts.
func textsOf(claim any) ([]string, bool) {
	switch v := claim.(type) {
	case nil:
		return nil, true
	case string:
		return []string{v}, true
	case []any:
		var out []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	return nil, false
}

func isOutsideName(s string) bool {
	return s != "" && len(s) <= maxOIDCName && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
	})
}

// claimedIssuer reads who a token says it is from. Nothing of it is true yet.
func claimedIssuer(text string) (string, error) {
	bad := refusal(reasonTokenBad, "the credential is neither a key nor a signed token").
		WithRemedy("give a whole key (sopk_…) or the token of an OIDC issuer")
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return "", bad
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", bad
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &c); err != nil || c.Issuer == "" {
		return "", bad
	}
	return c.Issuer, nil
}

// loadRoots reads certificates of authorities.
func loadRoots(path string) (*x509.CertPool, error) {
	text, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return pool, nil
}
