package api

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/sdk"
)

// Identities say who is who by proofs from outside, as the configuration maps
// them. They do not change; a reload replaces them.
type Identities struct {
	agents      map[string]nexus.Caller // those that are configured, by name
	uids        map[uint32]nexus.Caller
	commonNames map[string]nexus.Caller
	spiffe      map[string]nexus.Caller
	subjects    map[string]nexus.Caller // by what an issuer calls them, "corp:alice"
	domains     map[string]bool         // trust domains whose members are exterior agents
	roots       *x509.CertPool          // nil: no client certificate proves anything
	issuers     map[string]*Issuer
}

// NewIdentities returns those of a configuration. The issuers are those that it
// configures; roots may be nil.
func NewIdentities(cfg *config.Config, roots *x509.CertPool, issuers []*Issuer) *Identities {
	ids := &Identities{
		agents: make(map[string]nexus.Caller), uids: make(map[uint32]nexus.Caller), commonNames: make(map[string]nexus.Caller), spiffe: make(map[string]nexus.Caller),
		subjects: make(map[string]nexus.Caller), domains: make(map[string]bool), roots: roots, issuers: make(map[string]*Issuer),
	}
	for i := range cfg.Agents {
		a := &cfg.Agents[i]
		c := nexus.Caller{Name: a.Name, Trust: nexus.Trust(a.Trust), Groups: a.Groups}
		ids.agents[a.Name] = configured(c, a)
		for _, uid := range a.UIDs {
			ids.uids[uid] = c
		}
		for _, name := range a.CommonNames {
			ids.commonNames[name] = c
		}
		for _, id := range a.SPIFFE {
			ids.spiffe[id] = c
		}
		for _, subject := range a.OIDC {
			ids.subjects[subject] = c
		}
	}
	for _, d := range cfg.API.TLS.TrustDomains {
		ids.domains[d] = true
	}
	for _, i := range issuers {
		ids.issuers[i.cfg.Issuer] = i
	}
	return ids
}

// configured is an agent by the first of the proofs that it is mapped to.
func configured(c nexus.Caller, a *config.Agent) nexus.Caller {
	switch {
	case len(a.UIDs) > 0:
		c.Method = nexus.MethodPeer
	case len(a.CommonNames)+len(a.SPIFFE) > 0:
		c.Method = nexus.MethodMTLS
	default:
		c.Method = nexus.MethodOIDC
	}
	return c
}

// peer is who the process at the other end of a unix socket is.
func (ids *Identities) peer(p peer) nexus.Caller {
	c := nexus.PeerCaller(p.uid, p.pid)
	if mapped, ok := ids.uids[p.uid]; ok {
		c.Name, c.Trust, c.Groups = mapped.Name, mapped.Trust, mapped.Groups
	}
	return c
}

// certificate is who a client certificate names. That the caller has its key
// has been proven in the handshake; that somebody trusted vouches for it is
// proven here, on every call, so that what expires or is no longer trusted while
// the connection lasts is refused.
func (ids *Identities) certificate(chain []*x509.Certificate, now time.Time, p *presented) (nexus.Caller, error) {
	if ids.roots == nil {
		return nexus.Caller{}, refusal(reasonCertificate, "the host trusts no client certificates").
			WithRemedy("call without one, or set client_ca in the tls block of the configuration")
	}
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: ids.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nexus.Caller{}, certificateProblem(err)
	}
	c, err := ids.named(leaf, p)
	c.Method = nexus.MethodMTLS
	return c, err
}

func certificateProblem(err error) error {
	var invalid x509.CertificateInvalidError
	why := "nobody whom the host trusts vouches for the client certificate"
	remedy := "use one that was issued by the configured client_ca"
	if errors.As(err, &invalid) {
		why, remedy = "the client certificate is not valid for this use", "use one for client authentication"
		if invalid.Reason == x509.Expired {
			why, remedy = "the client certificate has expired, or is not valid yet", "renew it, and compare the clocks"
		}
	}
	e := refusal(reasonCertificate, "%s", why).WithRemedy("%s", remedy)
	e.Cause = err
	return e
}

// named returns the agent of a certificate that is genuine. A SPIFFE ID decides
// alone where there is one.
func (ids *Identities) named(leaf *x509.Certificate, p *presented) (nexus.Caller, error) {
	if len(leaf.URIs) > 0 {
		id, domain, ok := spiffeID(leaf.URIs)
		if !ok {
			return nexus.Caller{}, refusal(reasonCertificate, "the URI in the client certificate is no SPIFFE ID").WithRemedy("use a certificate with one SPIFFE ID")
		}
		p.note("spiffe_id", clipName(id))
		if c, mapped := ids.spiffe[id]; mapped {
			return c, nil
		}
		if ids.domains[domain] {
			return nexus.Caller{Name: id, Trust: nexus.Exterior}, nil
		}
	} else if c, mapped := ids.commonNames[leaf.Subject.CommonName]; mapped {
		return c, nil
	}
	return nexus.Caller{}, refusal(reasonUnmapped, "the client certificate is genuine, and no agent is mapped to it").
		WithRemedy("map its SPIFFE ID or common name in an agent block of the configuration")
}

// spiffeID returns the one SPIFFE ID of a certificate and its trust domain.
func spiffeID(uris []*url.URL) (id, domain string, ok bool) {
	if len(uris) != 1 {
		return "", "", false
	}
	id = uris[0].String()
	if !config.IsSPIFFE(id) {
		return "", "", false
	}
	return id, uris[0].Host, true
}

// token is who the token of an OIDC issuer names.
func (ids *Identities) token(ctx context.Context, text string, now time.Time, p *presented) (nexus.Caller, error) {
	iss, err := claimedIssuer(text)
	if err != nil {
		return nexus.Caller{}, err
	}
	issuer := ids.issuers[iss]
	if issuer == nil {
		return nexus.Caller{}, refusal(reasonIssuer, "the token's issuer is not one that the host trusts").
			WithRemedy("name the issuer in an oidc block of the configuration")
	}
	p.note("oidc", issuer.cfg.Name)
	c, err := issuer.verify(ctx, text, now)
	if err != nil {
		return nexus.Caller{}, err
	}
	if mapped, ok := ids.subjects[c.Name]; ok {
		c.Name, c.Trust = mapped.Name, mapped.Trust
		c.Groups = slices.Concat(mapped.Groups, c.Groups)
	}
	return c, nil
}

// noteAccessor notes which key was presented, where it has the form of one.
func noteAccessor(credential string, p *presented) {
	if k, err := agent.ParseKey(credential); err == nil {
		p.note("key", k.Accessor())
	}
}

// clipName makes a name from outside fit for a record.
func clipName(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }

func unavailable(reason, format string, args ...any) *sdk.Error {
	e := sdk.Errorf(codes.Unavailable, reason, format, args...)
	e.Retryable = true
	return e
}
