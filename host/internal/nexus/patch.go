package nexus

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// Patches are the proposed changes.
type Patches interface {
	Get(ctx context.Context, ref string) (*patch.Patch, error)
	List(ctx context.Context, filter patch.Filter) (patch.Page, error)
	Diff(ctx context.Context, p *patch.Patch, limit int) (string, error)
	Approve(ctx context.Context, ref, hash, by, why string) (*patch.Patch, error)
	Deny(ctx context.Context, ref, by, why string) (*patch.Patch, error)
	// Rollback takes back what was integrated.
	Rollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, patch.Reversal, error)
	// CheckApprove, CheckDeny and CheckRollback change nothing.
	CheckApprove(ctx context.Context, ref, hash, by, why string) (*patch.Patch, error)
	CheckDeny(ctx context.Context, ref, by, why string) (*patch.Patch, error)
	CheckRollback(ctx context.Context, ref string) (*patch.Patch, error)
	// TryRollback is CheckRollback that looks at the workspace, too.
	TryRollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, error)
}

// PatchResource is what policy is asked about a patch. One that is not there is
// the same to policy as one that nobody has proposed: whoever may decide about it
// is then told that it is not there, and nobody else is.
func (n *Nexus) PatchResource(ctx context.Context, ref string) (policy.Resource, error) {
	p, err := n.Patches.Get(ctx, ref)
	if errors.Is(err, patch.ErrNotFound) || errors.Is(err, patch.ErrAmbiguous) {
		p, err = &patch.Patch{ID: ref}, nil
	}
	if err != nil {
		return policy.Resource{}, err
	}
	return patchResource(p), nil
}

func patchResource(p *patch.Patch) policy.Resource {
	risks := make([]string, len(p.Risks))
	for i, r := range p.Risks {
		risks[i] = string(r)
	}
	out := policy.Resource{Ref: policy.Ref{Type: policy.TypePatch, ID: p.ID}, Attributes: map[string]any{
		"proposer": policy.Ref{Type: policy.TypeAgent, ID: p.Proposer}, "verified": p.Verified(), "approved": p.Approved(),
		"approvals": len(p.Approvals), "risks": risks,
	}}
	if p.Workspace != "" {
		out.In = []policy.Ref{{Type: policy.TypeWorkspace, ID: p.Workspace}}
	}
	return out
}

// MethodHost is proof by being the host itself.
const MethodHost Method = "host"

// HostCaller is a part of the host that acts by itself, such as "flow": it asks
// policy like everybody else.
func HostCaller(part string) Caller {
	name := ProtocolSOP + ":" + part
	return Caller{Name: name, Trust: System, Method: MethodHost, Source: name}
}

// What integrating takes, and taking back.
const (
	permissionIntegrate = "patch.integrate"
	permissionRollback  = "patch.rollback"
)

// integrationOperation is what an integration token permits: one content, and no
// other, to be put in or taken back.
func integrationOperation(permission, hash string) string { return permission + ":" + hash }

// IssueIntegration issues the token under which a patch is integrated, once: for
// the caller, and for exactly the content that the patch has. That it is verified
// and approved is asked when the token is used.
func (n *Nexus) IssueIntegration(ctx context.Context, ref string) (token.Secret, error) {
	return n.issueFor(ctx, permissionIntegrate, ref, "to integrate patch")
}

// issueFor issues a token for one change of a workspace by a patch.
func (n *Nexus) issueFor(ctx context.Context, permission, ref, why string) (token.Secret, error) {
	c, ok := CallerFrom(ctx)
	if !ok {
		return token.Secret{}, sdk.Errorf(codes.Unauthenticated, "UNAUTHENTICATED", "nobody asks for the token")
	}
	p, err := n.Patches.Get(ctx, ref)
	if err != nil {
		return token.Secret{}, err
	}
	secret, _, err := n.Tokens.Issue(ctx, token.Spec{
		Type: token.Integration, Protocol: ProtocolSOP, Operations: []string{integrationOperation(permission, p.Hash)}, Requester: c.Name,
		Task: p.Task, Workspace: p.Workspace, MaxUses: 1, IssuedBy: c.Name, Why: why + " " + p.ID,
	})
	return secret, err
}

// PermitIntegration decides whether a patch may be integrated now, under a token
// that the caller presents: it must be live and for exactly this content, and
// policy is asked with its type and with what is known of the patch. Then its use
// is taken. It returns the accessor, for the record. A retry with the same token
// costs nothing.
func (n *Nexus) PermitIntegration(ctx context.Context, ref, secret string) (accessor string, err error) {
	return n.permit(ctx, permissionIntegrate, ref, secret)
}

// PermitRollback decides whether the caller may take a patch back now, under a
// token that is issued for that and used at once. It returns its accessor, for the
// record.
func (n *Nexus) PermitRollback(ctx context.Context, ref string) (accessor string, err error) {
	secret, err := n.issueFor(ctx, permissionRollback, ref, "to take back patch")
	if err != nil {
		return "", err
	}
	return n.permit(ctx, permissionRollback, ref, secret.Reveal())
}

// RollBack takes an integrated patch back for the caller, under a token of its own.
func (n *Nexus) RollBack(ctx context.Context, ref, why string, merge bool) (*patch.Patch, patch.Reversal, error) {
	p, err := n.Patches.CheckRollback(ctx, ref)
	if err != nil {
		return nil, patch.Reversal{}, err
	}
	accessor, err := n.PermitRollback(ctx, p.ID)
	if err != nil {
		return nil, patch.Reversal{}, err
	}
	c, _ := CallerFrom(ctx)
	return n.Patches.Rollback(ctx, p.ID, patch.RollbackRequest{By: c.Name, Why: why, Token: accessor, Merge: merge})
}

// permit decides about one change of a workspace by a patch, and uses the token.
func (n *Nexus) permit(ctx context.Context, permission, ref, secret string) (accessor string, err error) {
	c, _ := CallerFrom(ctx)
	p, err := n.Patches.Get(ctx, ref)
	if err != nil {
		return "", err
	}
	use := token.Request{
		Requester: c.Name, Protocol: ProtocolSOP, Operation: integrationOperation(permission, p.Hash), Task: p.Task, Workspace: p.Workspace, Source: c.Name, Key: p.ID,
	}
	facts := make(map[string]any)
	if kind, ok := token.TypeOf(secret); ok {
		facts["token_type"] = string(kind)
	}
	if err := n.AuthorizeOn(ctx, permission, patchResource(p), facts); err != nil {
		return "", err
	}
	done, err := n.Tokens.Consume(ctx, secret, use)
	if err != nil {
		return "", n.TokenRefused(ctx, permission, secret, err)
	}
	return done.Accessor, nil
}
