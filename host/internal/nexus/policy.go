package nexus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/trace"
	"github.com/sop-host/sop/sdk"
)

// Policy is what decides who may do what; *policy.Live is one.
type Policy interface {
	Decide(req *policy.Request) policy.Decision
	// Set is what is in force.
	Set() *policy.Set
}

// Policies returns the set in force.
func (n *Nexus) Policies() *policy.Set {
	if n.Policy == nil {
		return policy.Default()
	}
	return n.Policy.Set()
}

// Reasons of what policy denies.
const (
	ReasonForbidden    = "FORBIDDEN_BY_POLICY"
	ReasonNotPermitted = "NOT_PERMITTED"
	ReasonPolicyError  = "POLICY_ERROR"
)

// Authorize decides whether the caller in ctx may do what permission names
// ("gap.read") on the host as a whole. See AuthorizeOn.
func (n *Nexus) Authorize(ctx context.Context, permission string) error {
	return n.AuthorizeOn(ctx, permission, policy.TheHost(), nil)
}

// AuthorizeOn decides whether the caller in ctx may do what permission names on
// a resource, by policy, and records the decision with the policies that decided:
// every denial, and every permission but those to look. Facts are what the schema
// knows of the action beside method and time; nil is fine.
func (n *Nexus) AuthorizeOn(ctx context.Context, permission string, resource policy.Resource, facts map[string]any) (err error) {
	ctx, span := trace.Start(ctx, trace.Internal, "authorize")
	span.Set("sop.permission", permission)
	defer func() { span.End(err) }()
	q := &question{permission: permission, resource: resource, facts: facts}
	c, err := n.ask(ctx, q)
	if err != nil {
		return err
	}
	return n.permitted(ctx, q, c)
}

// AuthorizeAgain is AuthorizeOn for what that has permitted and recorded: only a
// denial is recorded now.
func (n *Nexus) AuthorizeAgain(ctx context.Context, permission string, resource policy.Resource, facts map[string]any) error {
	_, err := n.ask(ctx, &question{permission: permission, resource: resource, facts: facts})
	return err
}

// ask has policy decide, and returns who asked, or the denial, which is recorded.
func (n *Nexus) ask(ctx context.Context, q *question) (Caller, error) {
	c, ok := CallerFrom(ctx)
	switch {
	case !ok:
		return c, n.denied(ctx, q, Caller{}, sdk.Errorf(codes.Unauthenticated, "UNAUTHENTICATED", "the caller could not be identified").
			WithRemedy("call through the host's unix socket, or send `Authorization: Bearer` with an enrolled key (sop agent enroll) or a token of a configured OIDC issuer, or show a client certificate of the configured client_ca"))
	case q.permission == "":
		return c, n.denied(ctx, q, c, sdk.Errorf(codes.PermissionDenied, "NO_PERMISSION_STATED", "the method states no permission and is closed"))
	}
	q.decision = n.decide(&policy.Request{
		Principal: policy.Agent{Name: c.Name, Trust: string(c.Trust), Method: string(c.Method), Groups: c.Groups},
		Action:    q.permission, Resource: q.resource, Context: q.facts,
	})
	for _, f := range q.decision.Errors {
		n.Logger.Error("a policy could not be evaluated", "permission", q.permission, "caller", c.Name, "error", f.String())
	}
	if !q.decision.Allow {
		return c, n.denied(ctx, q, c, q.refusal(c))
	}
	return c, nil
}

func (n *Nexus) decide(req *policy.Request) policy.Decision {
	if n.Policy == nil {
		return policy.Default().Decide(req)
	}
	return n.Policy.Decide(req)
}

// question is what was asked of policy, and the answer.
type question struct {
	permission string
	resource   policy.Resource
	facts      map[string]any
	decision   policy.Decision
}

type checkKey struct{}

// WithCheck returns the context of a call that only checks, and changes nothing: the
// records of decisions about it say so.
func WithCheck(ctx context.Context) context.Context { return context.WithValue(ctx, checkKey{}, true) }

// describe adds to a record what it is about, which policies decided, and that
// nothing was to be changed.
func (q *question) describe(ctx context.Context, r *audit.Record) {
	if check, _ := ctx.Value(checkKey{}).(bool); check {
		r.Attributes["validate_only"] = "true"
	}
	if q.resource.Type != policy.TypeHost {
		r.Attributes["on"] = q.resource.String()
	}
	if names := q.decision.Names(); names != "" {
		r.Attributes["policy"] = names
	}
	if len(q.decision.Errors) > 0 {
		r.Attributes["policy_error"] = q.decision.Errors[0].String()
	}
}

// refusal says which policy denied it, or that none permitted it.
func (q *question) refusal(c Caller) *sdk.Error {
	what := fmt.Sprintf("%s may not %s", c.Name, q.permission)
	if q.resource.Type != policy.TypeHost {
		what += " on " + q.resource.String()
	}
	explain := "`" + q.explain(c) + "` shows why"
	switch d := &q.decision; {
	case len(d.Policies) > 0:
		return sdk.Errorf(codes.PermissionDenied, ReasonForbidden, "%s: forbidden by the policy %s", what, d.Names()).
			WithRemedy("%s; whoever runs the host can change the policy", explain)
	case len(d.Errors) > 0:
		return sdk.Errorf(codes.PermissionDenied, ReasonPolicyError, "%s: policy cannot decide it: %s", what, d.Errors[0].String()).
			WithRemedy("whoever runs the host finds the policy with `sop policy list`")
	case c.System() || c.Method != MethodPeer:
		return sdk.Errorf(codes.PermissionDenied, ReasonNotPermitted, "%s: no policy permits it", what).
			WithRemedy("%s; whoever runs the host can permit it with a policy", explain)
	}
	return sdk.Errorf(codes.PermissionDenied, ReasonNotPermitted, "%s: no policy permits it", what).
		WithRemedy("run the command as the user that runs the host, or as root; or have it permitted with a policy")
}

// explain is the command that asks the same again. What the host knows of an agent
// by its name need not be said.
func (q *question) explain(c Caller) string {
	words := []string{"sop policy explain --principal", shellWord(c.Name)}
	if c.Method != MethodPeer {
		words = append(words, "--method", shellWord(string(c.Method)))
	}
	if c.Method == MethodOIDC || c.Method == MethodPlugin || c.Method == MethodHost { // who vouched for it says the rest
		words = append(words, "--trust", shellWord(string(c.Trust)))
		for _, g := range c.Groups {
			words = append(words, "--group", shellWord(g))
		}
	}
	words = append(words, "--action", q.permission)
	if q.resource.Type != policy.TypeHost {
		words = append(words, "--resource", shellWord(q.resource.String()))
	}
	facts := FactTexts(q.facts)
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		words = append(words, "--context", shellWord(name+"="+facts[name]))
	}
	return strings.Join(words, " ")
}

// FactTexts writes facts and attributes as they are given to `sop policy explain`.
func FactTexts(facts map[string]any) map[string]string {
	out := make(map[string]string, len(facts))
	for name, fact := range facts {
		if list, ok := fact.([]string); ok {
			fact = strings.Join(list, ",")
		}
		out[name] = fmt.Sprint(fact)
	}
	return out
}

// shellWord quotes a text where a shell would not take it as one word.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("@%+=:,./_-", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
