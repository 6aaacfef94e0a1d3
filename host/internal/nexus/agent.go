package nexus

import (
	"context"
	"maps"
	"strings"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/sdk"
)

// What else than the kernel an identity was proven by.
const (
	// MethodKey is proof by an enrolled key.
	MethodKey Method = "key"
	// MethodMTLS is proof by a client certificate.
	MethodMTLS Method = "mtls"
	// MethodOIDC is proof by a token of an OpenID Connect issuer.
	MethodOIDC Method = "oidc"
)

// permissionWhoAmI is what every caller that was authenticated has: to be told
// as whom.
const permissionWhoAmI = "agent.whoami"

// Agents are the callers that were enrolled.
type Agents interface {
	Enroll(ctx context.Context, spec agent.Spec) (agent.Secret, *agent.Agent, error)
	// CheckEnroll says whether Enroll would enroll; the others likewise.
	CheckEnroll(ctx context.Context, spec agent.Spec) error
	Rotate(ctx context.Context, r agent.Rotation) (agent.Secret, *agent.Agent, error)
	CheckRotate(ctx context.Context, r agent.Rotation) error
	Revoke(ctx context.Context, name, by, why string) (*agent.Agent, error)
	CheckRevoke(ctx context.Context, name, why string) error
	Get(ctx context.Context, name string) (*agent.Agent, error)
	List(ctx context.Context, filter agent.Filter) (agent.Page, error)
	// Authenticate returns the agent whose key is presented.
	Authenticate(ctx context.Context, key string) (*agent.Agent, error)
	// Live returns an error where the agent of a name was revoked or has expired.
	Live(name string) error
}

// Forfeited is what an agent held when it was revoked.
type Forfeited struct {
	Tokens int // with those that were issued from them
	Tasks  int
}

// RevokeAgent ends an agent, then the tokens that it holds with all that came from
// them, then its claims on tasks. An agent that was revoked before is no error, so
// that whoever is told that something failed can do it again.
func (n *Nexus) RevokeAgent(ctx context.Context, name, by, why string) (a *agent.Agent, lost Forfeited, err error) {
	if a, err = n.Agents.Revoke(ctx, name, by, why); err != nil {
		return nil, lost, err
	}
	reason := ForfeitReason(a)
	if lost.Tokens, err = n.Tokens.RevokeHeld(ctx, name, by, reason); err != nil {
		return nil, lost, unfinished(err, name, "its tokens, which are refused, are not all recorded as revoked, and what was issued from them may live")
	}
	if lost.Tasks, err = n.Tasks.TakeBack(ctx, name, by, reason); err != nil {
		return nil, lost, unfinished(err, name, "tasks that it has claimed stay claimed until their leases end")
	}
	return a, lost, nil
}

// ForfeitReason is why what an agent held that was revoked has ended, in words.
func ForfeitReason(a *agent.Agent) string { return "agent " + a.Name + " was revoked: " + a.Reason }

// unfinished says what a revocation has left undone.
func unfinished(err error, name, left string) error {
	e := *sdk.FromError(err)
	e.Message = "agent " + name + " is revoked, but " + left + ": " + e.Message
	e.Remedy = strings.TrimSuffix("revoke it again; "+e.Remedy, "; ")
	return &e
}

// AgentCaller is who presented an enrolled key.
func AgentCaller(a *agent.Agent) Caller {
	return Caller{Name: a.Name, Trust: Trust(a.Trust), Method: MethodKey, Groups: a.Groups}
}

// CredentialRefused records that a credential was presented and refused: by
// which method, from where, and what is known of it, which is never the
// credential. It stays refused when that cannot be recorded.
func (n *Nexus) CredentialRefused(ctx context.Context, method Method, source string, known map[string]string, why *sdk.Error) {
	n.Logger.Warn("credential refused", "method", method, "source", source, "reason", why.Reason)
	if n.OnDenied != nil {
		n.OnDenied(why.Reason)
	}
	if n.Audit == nil {
		return
	}
	attributes := map[string]string{"method": string(method)}
	maps.Copy(attributes, known)
	err := n.Audit.Append(context.WithoutCancel(ctx), audit.Record{
		Actor: "unauthenticated", Action: "access.authenticate", Resource: "source/" + source,
		Outcome: audit.Denied, Reason: why.Reason, Attributes: attributes,
	})
	if err != nil {
		n.Logger.Error("a refused credential could not be recorded", "source", source, "error", err)
	}
}
