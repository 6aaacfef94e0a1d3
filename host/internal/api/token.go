package api

import (
	"context"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// tokenService serves sop.api.v1.Token.
type tokenService struct{ *nexus.Nexus }

// IssueToken implements the rpc.
func (s *tokenService) IssueToken(ctx context.Context, req *connect.Request[apiv1.IssueTokenRequest]) (*connect.Response[apiv1.IssueTokenResponse], error) {
	spec := tokenSpec(ctx, req.Msg.GetSpec())
	if spec.Requester == "" {
		spec.Requester = by(ctx)
	}
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.IssueTokenResponse{}), s.Tokens.Check(spec)
	}
	secret, t, err := s.Tokens.Issue(ctx, spec)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.IssueTokenResponse{Secret: secret.Reveal(), Token: TokenRecord(t)}), nil
}

// IssueChildToken implements the rpc.
func (s *tokenService) IssueChildToken(ctx context.Context, req *connect.Request[apiv1.IssueChildTokenRequest]) (*connect.Response[apiv1.IssueChildTokenResponse], error) {
	spec := tokenSpec(ctx, req.Msg.GetSpec())
	ctx, holder, err := nexus.Presenting(ctx, req.Msg.GetHolder())
	if err != nil {
		return nil, err
	}
	spec.IssuedBy = holder
	if req.Msg.GetValidateOnly() {
		err := s.Tokens.CheckChild(ctx, req.Msg.GetSecret(), token.Request{Requester: holder, Source: by(ctx)}, spec)
		if err != nil {
			return nil, s.TokenRefused(ctx, "token.issue", req.Msg.GetSecret(), err)
		}
		return connect.NewResponse(&apiv1.IssueChildTokenResponse{}), nil
	}
	secret, t, err := s.Tokens.IssueChild(ctx, req.Msg.GetSecret(), token.Request{Requester: holder, Source: by(ctx)}, spec)
	if err != nil {
		return nil, s.TokenRefused(ctx, "token.issue", req.Msg.GetSecret(), err)
	}
	return connect.NewResponse(&apiv1.IssueChildTokenResponse{Secret: secret.Reveal(), Token: TokenRecord(t)}), nil
}

// ValidateToken implements the rpc.
func (s *tokenService) ValidateToken(ctx context.Context, req *connect.Request[apiv1.ValidateTokenRequest]) (*connect.Response[apiv1.ValidateTokenResponse], error) {
	use := req.Msg.GetUse()
	ctx, r, err := tokenRequest(ctx, use)
	if err != nil {
		return nil, err
	}
	r.NamedOnly = true
	if c, ok := nexus.CallerFrom(ctx); ok && c.System() {
		r.Requester = use.GetRequester() // who looks after tokens need not hold them
	}
	t, err := s.Tokens.Validate(ctx, req.Msg.GetSecret(), r)
	if err != nil {
		return nil, s.TokenRefused(ctx, "token.validate", req.Msg.GetSecret(), err)
	}
	return connect.NewResponse(&apiv1.ValidateTokenResponse{Token: TokenRecord(t)}), nil
}

// ConsumeToken implements the rpc.
func (s *tokenService) ConsumeToken(ctx context.Context, req *connect.Request[apiv1.ConsumeTokenRequest]) (*connect.Response[apiv1.ConsumeTokenResponse], error) {
	ctx, r, err := tokenRequest(ctx, req.Msg.GetUse())
	if err != nil {
		return nil, err
	}
	r.Key = req.Msg.GetIdempotencyKey()
	if req.Msg.GetValidateOnly() {
		return s.checkConsume(ctx, req.Msg.GetSecret(), r)
	}
	use, err := s.Tokens.Consume(ctx, req.Msg.GetSecret(), r)
	if err != nil {
		return nil, s.TokenRefused(ctx, "token.consume", req.Msg.GetSecret(), err)
	}
	return connect.NewResponse(&apiv1.ConsumeTokenResponse{
		Id: use.ID, Accessor: use.Accessor, State: string(use.State), Uses: int64(use.Uses), Remaining: int64(use.Remaining),
		At: stamp(use.At), ExpiresAt: stamp(use.ExpiresAt), RepeatedAnswer: use.Again,
	}), nil
}

// checkConsume answers with the token as it is.
func (s *tokenService) checkConsume(ctx context.Context, secret string, r token.Request) (*connect.Response[apiv1.ConsumeTokenResponse], error) {
	t, err := s.Tokens.CheckConsume(ctx, secret, r)
	if err != nil {
		return nil, s.TokenRefused(ctx, "token.consume", secret, err)
	}
	return connect.NewResponse(&apiv1.ConsumeTokenResponse{
		Id: t.ID, Accessor: t.Accessor, State: string(t.State), Uses: int64(t.Uses), Remaining: int64(t.Remaining()), ExpiresAt: stamp(t.ExpiresAt),
	}), nil
}

// RenewToken implements the rpc.
func (s *tokenService) RenewToken(ctx context.Context, req *connect.Request[apiv1.RenewTokenRequest]) (*connect.Response[apiv1.RenewTokenResponse], error) {
	if req.Msg.GetValidateOnly() {
		t, err := s.Tokens.CheckRenew(ctx, req.Msg.GetId(), req.Msg.GetTtl().AsDuration())
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&apiv1.RenewTokenResponse{Token: TokenRecord(t)}), nil
	}
	t, err := s.Tokens.Renew(ctx, req.Msg.GetId(), req.Msg.GetTtl().AsDuration(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RenewTokenResponse{Token: TokenRecord(t)}), nil
}

// RevokeToken implements the rpc.
func (s *tokenService) RevokeToken(ctx context.Context, req *connect.Request[apiv1.RevokeTokenRequest]) (*connect.Response[apiv1.RevokeTokenResponse], error) {
	if req.Msg.GetValidateOnly() {
		t, err := s.Tokens.CheckRevoke(ctx, req.Msg.GetId(), req.Msg.GetReason())
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&apiv1.RevokeTokenResponse{Token: TokenRecord(t)}), nil
	}
	t, n, err := s.Tokens.Revoke(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RevokeTokenResponse{Token: TokenRecord(t), Revoked: int64(n)}), nil
}

// ListTokens implements the rpc.
func (s *tokenService) ListTokens(ctx context.Context, req *connect.Request[apiv1.ListTokensRequest]) (*connect.Response[apiv1.ListTokensResponse], error) {
	filter := token.Filter{
		Requester: req.Msg.GetRequester(), Task: req.Msg.GetTask(), Limit: pageSize(req.Msg.GetPageSize()), Token: req.Msg.GetPageToken(),
	}
	var err error
	if filter.Where, err = parseFilter(req.Msg.GetFilter(), token.ListFields); err != nil {
		return nil, err
	}
	if filter.Order, err = parseOrder(req.Msg.GetOrderBy(), token.ListFields); err != nil {
		return nil, err
	}
	if filter.Types, err = known("TOKEN_REQUEST", "token type", "types", token.Types(), req.Msg.GetTypes()); err != nil {
		return nil, err
	}
	if filter.States, err = known("TOKEN_REQUEST", "token state", "states", token.States(), req.Msg.GetStates()); err != nil {
		return nil, err
	}
	page, err := s.Tokens.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListTokensResponse{NextPageToken: page.Next, Total: page.Total}
	for _, t := range page.Tokens {
		resp.Tokens = append(resp.Tokens, TokenRecord(t))
	}
	return connect.NewResponse(resp), nil
}

// known converts words of a field, of which each must be one of all; what is one of them.
func known[T ~string](reason, what, field string, all []T, words []string) ([]T, error) {
	var out []T
	for _, w := range words {
		if !slices.Contains(all, T(w)) {
			return nil, sdk.Errorf(codes.InvalidArgument, reason, "there is no %s %q", what, w).WithRemedy("they are %v", all).
				WithField(field, "")
		}
		out = append(out, T(w))
	}
	return out, nil
}

// GetToken implements the rpc.
func (s *tokenService) GetToken(ctx context.Context, req *connect.Request[apiv1.GetTokenRequest]) (*connect.Response[apiv1.GetTokenResponse], error) {
	t, err := s.Tokens.Get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetTokenResponse{Token: TokenRecord(t)}), nil
}

// tokenRequest converts the request; the context is that in which the token is
// judged.
func tokenRequest(ctx context.Context, use *apiv1.TokenUse) (context.Context, token.Request, error) {
	ctx, requester, err := nexus.Presenting(ctx, use.GetRequester())
	return ctx, token.Request{
		Requester: requester, Protocol: use.GetProtocol(), Operation: use.GetOperation(), Task: use.GetTask(),
		Workspace: use.GetWorkspace(), Paths: use.GetPaths(), Source: by(ctx),
	}, err
}

// tokenSpec converts the request.
func tokenSpec(ctx context.Context, in *apiv1.TokenSpec) token.Spec {
	spec := token.Spec{
		Type: token.Type(in.GetType()), Protocol: in.GetProtocol(), Operations: in.GetOperations(), Requester: in.GetRequester(),
		Task: in.GetTask(), Paths: in.GetPaths(), Workspace: in.GetWorkspace(),
		MaxUses: int(in.GetMaxUses()), IssuedBy: by(ctx), Why: in.GetReason(),
	}
	if in.GetNotBefore() != nil {
		spec.NotBefore = in.GetNotBefore().AsTime()
	}
	if in.GetTtl() != nil {
		spec.TTL = in.GetTtl().AsDuration()
	}
	if in.GetMaxLife() != nil {
		spec.MaxLife = in.GetMaxLife().AsDuration()
	}
	return spec
}
