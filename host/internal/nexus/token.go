package nexus

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// Tokens are the capabilities that agents work under.
type Tokens interface {
	Issue(ctx context.Context, spec token.Spec) (token.Secret, *token.Token, error)
	// Check says whether Issue would issue.
	Check(spec token.Spec) error
	// CheckChild, CheckConsume, CheckRenew and CheckRevoke change nothing.
	CheckChild(ctx context.Context, secret string, holder token.Request, spec token.Spec) error
	CheckConsume(ctx context.Context, secret string, req token.Request) (*token.Token, error)
	CheckRenew(ctx context.Context, ref string, ttl time.Duration) (*token.Token, error)
	CheckRevoke(ctx context.Context, ref, why string) (*token.Token, error)
	IssueChild(ctx context.Context, secret string, holder token.Request, spec token.Spec) (token.Secret, *token.Token, error)
	Validate(ctx context.Context, secret string, req token.Request) (*token.Token, error)
	Consume(ctx context.Context, secret string, req token.Request) (token.Use, error)
	Renew(ctx context.Context, ref string, ttl time.Duration, by, why string) (*token.Token, error)
	Revoke(ctx context.Context, ref, by, why string) (*token.Token, int, error)
	// RevokeHeld ends the tokens of an agent, with all that came from them.
	RevokeHeld(ctx context.Context, agent, by, why string) (int, error)
	List(ctx context.Context, filter token.Filter) (token.Page, error)
	Get(ctx context.Context, ref string) (*token.Token, error)
}

// Presenting returns who presents a token: the caller, or whom a system caller
// speaks for. In the context a system caller is told why a token is refused.
func Presenting(ctx context.Context, named string) (context.Context, string, error) {
	c, ok := CallerFrom(ctx)
	system := ok && c.System()
	if system {
		ctx = token.WithReasons(ctx)
	}
	switch {
	case named == "" || named == c.Name:
		return ctx, c.Name, nil
	case !system:
		return ctx, "", sdk.Errorf(codes.PermissionDenied, "NOT_YOURSELF", "%s may not speak for another agent", c.Name).
			WithRemedy("leave the requester out")
	}
	return ctx, named, nil
}

// TokenRefused records that a token was presented and refused, with the reason
// that the caller may not be told, and returns the refusal.
func (n *Nexus) TokenRefused(ctx context.Context, permission, presented string, refusal error) error {
	why := sdk.FromError(refusal)
	if why.Code != codes.PermissionDenied && why.Code != codes.ResourceExhausted {
		return refusal
	}
	var hidden *sdk.Error
	if why.Reason == token.ReasonDenied && errors.As(why.Cause, &hidden) {
		why = hidden
	}
	c, _ := CallerFrom(ctx)
	accessor := ""
	if secret, err := token.ParseSecret(presented); err == nil {
		accessor = secret.Accessor()
	}
	r := decision(permission, c, audit.Denied, why.Reason)
	r.Token = accessor
	n.recordDenial(ctx, permission, c, r)
	return refusal
}
