package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// readIdentities reads who may call and where: the api, agent and oidc blocks.
func (l *loader) readIdentities(config *Config, blocks map[string][]*hclsyntax.Block, s *scope) {
	config.API = readAPI(&l.reporter, nil, l.dir)
	for i, b := range blocks["api"] {
		read := readAPI(&l.reporter, l.evaluateBlock(b, s), l.dir)
		if i == 0 {
			config.API = read
			continue
		}
		l.duplicate(b, "api", config.API.Source)
	}
	config.Agents = readNamed(l, blocks["agent"], s, agentAttributes, readAgent, func(a *Agent) (string, Range) { return a.Name, a.Source })
	config.OIDC = readNamed(l, blocks["oidc"], s, oidcAttributes, readOIDC, func(o *OIDC) (string, Range) { return o.Name, o.Source })
	l.checkProofs(config)
}

// readNamed reads blocks with one label, which is unique, sorted by it.
func readNamed[T any](
	l *loader, blocks []*hclsyntax.Block, s *scope, attributes []string,
	read func(*reporter, *block, string) T, name func(*T) (string, Range),
) []T {
	var out []T
	seen := make(map[string]Range)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if !l.wantLabels(evaluated, "name") {
			l.allow(evaluated, attributes, nil)
			continue
		}
		v := read(&l.reporter, evaluated, l.dir)
		id, source := name(&v)
		if first, taken := seen[id]; taken {
			l.duplicate(b, fmt.Sprintf("%s %q", b.Type, id), first)
			continue
		}
		seen[id] = source
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b T) int {
		x, _ := name(&a)
		y, _ := name(&b)
		return strings.Compare(x, y)
	})
	return out
}

// checkProofs refuses a proof that is mapped to two agents, and an issuer that
// is configured twice: which one it stands for would be chance.
func (l *loader) checkProofs(config *Config) {
	owner := make(map[string]*Agent)
	for i := range config.Agents {
		a := &config.Agents[i]
		for _, proof := range a.proofs() {
			if other := owner[proof]; other != nil && other != a {
				l.report(problem(hclRange(a.Source), "Duplicate mapping", "The agent %q, at %s, has %s too.", other.Name, other.Source, proof))
			}
			owner[proof] = a
		}
	}
	issuers := make(map[string]*OIDC)
	for i := range config.OIDC {
		o := &config.OIDC[i]
		if other := issuers[o.Issuer]; other != nil && o.Issuer != "" {
			l.report(problem(hclRange(o.Source), "Duplicate issuer", "The oidc block %q, at %s, has the issuer too.", other.Name, other.Source))
		}
		issuers[o.Issuer] = o
	}
	l.checkSubjects(config)
}

// checkSubjects refuses subjects of an issuer that is not configured.
func (l *loader) checkSubjects(config *Config) {
	for i := range config.Agents {
		a := &config.Agents[i]
		for _, subject := range a.OIDC {
			name, _, _ := strings.Cut(subject, ":")
			if !slices.ContainsFunc(config.OIDC, func(o OIDC) bool { return o.Name == name }) {
				l.report(problem(hclRange(a.Source), "Unknown issuer", "There is no oidc block %q, which the agent %q names in %q.", name, a.Name, subject))
			}
		}
	}
}

// hclRange is the range that publicRange made public.
func hclRange(r Range) hcl.Range {
	return hcl.Range{
		Filename: r.File,
		Start:    hcl.Pos{Line: r.Line, Column: r.Column}, End: hcl.Pos{Line: r.EndLine, Column: r.EndColumn},
	}
}

func (a *Agent) proofs() []string {
	var out []string
	for _, uid := range a.UIDs {
		out = append(out, fmt.Sprintf("uid %d", uid))
	}
	for _, n := range a.CommonNames {
		out = append(out, fmt.Sprintf("common name %q", n))
	}
	for _, s := range a.OIDC {
		out = append(out, fmt.Sprintf("the OIDC subject %q", s))
	}
	return append(out, a.SPIFFE...)
}

// The objects of who may call and where.
const (
	ObjectAPI   Object = "api"
	ObjectAgent Object = "agent"
	ObjectOIDC  Object = "oidc"
)

// diffIdentities compares who may call and where. All of it is taken over while
// the host runs. The API is listed where it differs or is configured.
func diffIdentities(old, next *Config) []Change {
	before, after := &Config{}, &Config{}
	if old != nil {
		before = old
	}
	if next != nil {
		after = next
	}
	var changes []Change
	if before.API.Source != (Range{}) || after.API.Source != (Range{}) {
		changes = append(changes, updated(ObjectAPI, "", old != nil && before.API.Source != (Range{}), after.API.Source != (Range{}), diffAPI(&before.API, &after.API)))
	}
	from, to := byName(before.Agents, func(a *Agent) string { return a.Name }), byName(after.Agents, func(a *Agent) string { return a.Name })
	for _, name := range keysOfBoth(from, to) {
		was, is := from[name], to[name]
		var why reasons
		if was != nil && is != nil {
			why = diffAgent(was, is)
		}
		changes = append(changes, updated(ObjectAgent, name, was != nil, is != nil, why))
	}
	issued, issues := byName(before.OIDC, func(o *OIDC) string { return o.Name }), byName(after.OIDC, func(o *OIDC) string { return o.Name })
	for _, name := range keysOfBoth(issued, issues) {
		was, is := issued[name], issues[name]
		var why reasons
		if was != nil && is != nil {
			why = diffOIDCSettings(was, is)
		}
		changes = append(changes, updated(ObjectOIDC, name, was != nil, is != nil, why))
	}
	return changes
}

// updated is the change of what comes, goes or is updated in place.
func updated(object Object, id string, was, is bool, why reasons) Change {
	change := Change{Object: object, ID: id}
	switch {
	case !was:
		change.Action, change.Reasons = ActionStart, []string{"added"}
	case !is:
		change.Action, change.Reasons = ActionStop, []string{"removed"}
	case len(why) == 0:
		change.Action = ActionUnchanged
	default:
		change.Action, change.Reasons = ActionUpdate, why
	}
	return change
}

func byName[T any](all []T, name func(*T) string) map[string]*T {
	out := make(map[string]*T, len(all))
	for i := range all {
		out[name(&all[i])] = &all[i]
	}
	return out
}

func diffAPI(old, next *API) reasons {
	var why reasons
	why.changed("listen", old.Listen != next.Listen)
	why.changed("socket_mode", old.SocketMode != next.SocketMode)
	why.changed("socket_group", old.SocketGroup != next.SocketGroup)
	why.changed("tls.cert", old.TLS.Cert != next.TLS.Cert)
	why.changed("tls.key", old.TLS.Key != next.TLS.Key)
	why.changed("tls.client_ca", old.TLS.ClientCA != next.TLS.ClientCA)
	why.changed("tls.exterior_trust_domains", !slices.Equal(old.TLS.TrustDomains, next.TLS.TrustDomains))
	return why
}

func diffAgent(old, next *Agent) reasons {
	var why reasons
	why.changed("trust", old.Trust != next.Trust)
	why.changed("groups", !slices.Equal(old.Groups, next.Groups))
	why.changed("uid", !slices.Equal(old.UIDs, next.UIDs))
	why.changed("common_name", !slices.Equal(old.CommonNames, next.CommonNames))
	why.changed("spiffe", !slices.Equal(old.SPIFFE, next.SPIFFE))
	why.changed("oidc", !slices.Equal(old.OIDC, next.OIDC))
	return why
}

func diffOIDCSettings(old, next *OIDC) reasons {
	var why reasons
	why.changed("issuer", old.Issuer != next.Issuer)
	why.changed("audience", !slices.Equal(old.Audience, next.Audience))
	why.changed("algorithms", !slices.Equal(old.Algorithms, next.Algorithms))
	why.changed("trust", old.Trust != next.Trust)
	why.changed("name_claim", old.NameClaim != next.NameClaim)
	why.changed("groups_claim", old.GroupsClaim != next.GroupsClaim)
	why.changed("leeway", old.Leeway != next.Leeway)
	why.changed("ca", old.CA != next.CA)
	return why
}
