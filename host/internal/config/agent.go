package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

var textType = cty.String

// An Agent maps proofs from outside to one caller with a name.
type Agent struct {
	Name        string
	Trust       string // system or exterior
	Groups      []string
	UIDs        []uint32 // of processes that call by the unix socket
	CommonNames []string // of client certificates without a SPIFFE ID
	SPIFFE      []string // IDs in client certificates
	OIDC        []string // "corp:alice": an oidc block, and what its name_claim says
	Source      Range
}

// An OIDC is an OpenID Connect issuer whose tokens prove who calls.
type OIDC struct {
	Name        string
	Issuer      string
	Audience    []string // a token is for at least one of them
	Algorithms  []string
	Trust       string // of all that it names
	NameClaim   string
	GroupsClaim string
	Leeway      time.Duration // how far clocks may be apart
	CA          string        // file of authorities for the issuer; empty: the system's
	Source      Range
}

// Equal says that two issuers differ at most in their place in the source.
func (o *OIDC) Equal(other *OIDC) bool { return len(diffOIDCSettings(o, other)) == 0 }

var (
	agentAttributes = []string{"trust", "groups", "uid", "uids", "common_name", "common_names", "spiffe", "spiffe_ids", "oidc", "oidc_subjects"}
	oidcAttributes  = []string{"issuer", "audience", "algorithms", "trust", "name_claim", "groups_claim", "leeway", "ca"}
	trusts          = []string{"exterior", "system"}
	// Neither none nor those in which who verifies could also sign.
	oidcAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

	leewayBounds = bounds{low: time.Second, high: 5 * time.Minute, orZero: true}
	agentName    = newPattern(`^[a-z][a-z0-9._-]{0,62}$`)
	claimName    = newPattern(`^[A-Za-z0-9_:/.-]{1,128}$`)

	reservedAgents = []string{"clock", "host", "root", "unauthenticated"}
)

// readAgent reads an agent block that has its one label.
func readAgent(r *reporter, b *block, dir string) Agent {
	s := section{reporter: r, dir: dir}.within(b)
	r.allow(b, agentAttributes, nil)
	if name := b.labels[0]; !agentName.MatchString(name) || slices.Contains(reservedAgents, name) {
		r.errorf(b.labelRanges[0], "Invalid name", "%q cannot be the name of an agent. It starts with a lower-case letter, goes on with lower-case letters, digits, dots, _ and -, and is not one of %s.",
			name, strings.Join(reservedAgents, ", "))
	}
	a := Agent{
		Name: b.labels[0], Trust: s.choice("trust", "exterior", trusts), Groups: s.texts("groups", checkAgentGroup),
		CommonNames: s.oneOrMore("common_name", "common_names", checkCommonName),
		SPIFFE:      s.oneOrMore("spiffe", "spiffe_ids", checkSPIFFE),
		OIDC:        s.oneOrMore("oidc", "oidc_subjects", checkSubject),
		Source:      publicRange(b.header),
	}
	a.UIDs = s.uids()
	slices.Sort(a.Groups)
	a.Groups = slices.Compact(a.Groups)
	if len(a.proofs()) == 0 {
		if _, set := b.body.attributes["uid"]; !set {
			r.errorf(b.header, "Missing attribute", "An agent block maps at least one of \"uid\", \"common_name\", \"spiffe\" and \"oidc\". An agent with a key is enrolled with: sop agent enroll %s", b.labels[0])
		}
	}
	return a
}

// oneOrMore reads what may be given as one text, as a list, or both.
func (s section) oneOrMore(one, more string, check func(string) error) []string {
	var out []string
	if text := s.text(one, "", check); text != "" {
		out = append(out, text)
	}
	return append(out, s.texts(more, check)...)
}

func (s section) uids() []uint32 {
	var out []uint32
	if _, set := s.body.attributes["uid"]; set {
		if n := s.integer("uid", -1, 0, math.MaxUint32-1); n >= 0 {
			out = append(out, uint32(n))
		}
	}
	attr, value, ok := s.get("uids", cty.List(cty.Number))
	if !ok {
		return out
	}
	for _, element := range value.AsValueSlice() {
		n, accuracy := int64(-1), 0
		if !element.IsNull() {
			v, exact := element.AsBigFloat().Int64()
			n, accuracy = v, int(exact)
		}
		if accuracy != 0 || n < 0 || n >= math.MaxUint32 {
			s.errorf(attr.expr.Range(), "Invalid value", "\"uids\" holds what is no user id.")
			return out
		}
		out = append(out, uint32(n))
	}
	return out
}

func checkAgentGroup(name string) error {
	if !agentName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a group: it starts with a lower-case letter and goes on with lower-case letters, digits, dots, _ and -", name)
	}
	return nil
}

func checkCommonName(name string) error {
	if name == "" || len(name) > 256 {
		return errors.New("a common name has from 1 to 256 bytes")
	}
	return nil
}

func checkSubject(text string) error {
	if issuer, subject, found := strings.Cut(text, ":"); !found || issuer == "" || subject == "" || len(text) > 256 {
		return fmt.Errorf("%q names nobody: write the name of an oidc block, a colon, and what its name_claim says of the caller", text)
	}
	return nil
}

// readOIDC reads an oidc block that has its one label.
func readOIDC(r *reporter, b *block, dir string) OIDC {
	s := section{reporter: r, dir: dir}.within(b)
	r.nameLabel(b, 0)
	r.allow(b, oidcAttributes, nil)
	s.require("issuer")
	s.require("audience")
	o := OIDC{
		Name: b.labels[0], Issuer: s.text("issuer", "", CheckIssuer), Audience: s.texts("audience", checkAudience),
		Algorithms: s.texts("algorithms", checkAlgorithm), Trust: s.choice("trust", "exterior", trusts),
		NameClaim: s.text("name_claim", "sub", checkClaim), GroupsClaim: s.text("groups_claim", "groups", checkClaim),
		Leeway: s.duration("leeway", 30*time.Second, leewayBounds), CA: s.path("ca", ""), Source: publicRange(b.header),
	}
	if attr := b.body.attributes["audience"]; attr != nil && attr.value.IsWhollyKnown() && len(o.Audience) == 0 {
		s.errorf(attr.expr.Range(), "Invalid value", "\"audience\" names at least one: without, a token that was made for somebody else would be good here.")
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{"RS256", "ES256"}
	}
	return o
}

func checkAudience(text string) error {
	if text == "" {
		return errors.New("an audience must not be empty")
	}
	return nil
}

func checkAlgorithm(name string) error {
	if !slices.Contains(oidcAlgorithms, name) {
		return fmt.Errorf("%q is no algorithm that can prove anything here; use %s", name, strings.Join(oidcAlgorithms, ", "))
	}
	return nil
}

func checkClaim(name string) error {
	if !claimName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a claim", name)
	}
	return nil
}
