package cli

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// testSecret has the form of a secret, without its checksum.
const testSecret = "sop_t_4kFz0aYt2QmB91xw_0000000000000000000000000000000000000000000aaaaaa"

func testToken() *apiv1.TokenRecord {
	return &apiv1.TokenRecord{
		Id: "019cb000-0000-7000-8000-00000000000a", Accessor: "4kFz0aYt2QmB91xw", Type: "todo", State: "active", Reason: "its time has come",
		Operations: []string{"patch.propose", "patch.show"}, Requester: "agent-7", Task: "019cb001", Paths: []string{"docs"}, IssuedBy: "uid:1000",
		CreatedAt: before(time.Hour), NotBefore: before(time.Hour), ExpiresAt: before(-47 * time.Hour), Deadline: before(-335 * time.Hour), LastUse: before(time.Minute),
		MaxUses: 100, Uses: 3, Reserved: 5, Remaining: 92,
		History: []*apiv1.TokenChange{
			{At: before(time.Hour), Action: "issued", To: "pending", By: "uid:1000", Reason: "issued"},
			{At: before(time.Hour), Action: "activated", From: "pending", To: "active", By: "clock", Reason: "its time has come"},
		},
	}
}

// fakeToken answers as in a scenario.
type fakeToken struct{ fakeHost }

func (h fakeToken) IssueToken(_ context.Context, r *connect.Request[apiv1.IssueTokenRequest]) (*connect.Response[apiv1.IssueTokenResponse], error) {
	if r.Msg.GetValidateOnly() {
		return answer(h.fakeHost, &apiv1.IssueTokenResponse{})
	}
	return answer(h.fakeHost, &apiv1.IssueTokenResponse{Secret: testSecret, Token: testToken()})
}

func (h fakeToken) IssueChildToken(_ context.Context, r *connect.Request[apiv1.IssueChildTokenRequest]) (*connect.Response[apiv1.IssueChildTokenResponse], error) {
	if r.Msg.GetSecret() != testSecret {
		return nil, connect.NewError(connect.CodePermissionDenied, context.Canceled)
	}
	t := testToken()
	t.Parent, t.MaxUses = t.GetId(), r.Msg.GetSpec().GetMaxUses()
	return answer(h.fakeHost, &apiv1.IssueChildTokenResponse{Secret: strings.Replace(testSecret, "4k", "5k", 1), Token: t})
}

func (h fakeToken) ValidateToken(_ context.Context, r *connect.Request[apiv1.ValidateTokenRequest]) (*connect.Response[apiv1.ValidateTokenResponse], error) {
	if r.Msg.GetSecret() != testSecret {
		return nil, connect.NewError(connect.CodePermissionDenied, context.Canceled)
	}
	return answer(h.fakeHost, &apiv1.ValidateTokenResponse{Token: testToken()})
}

func (h fakeToken) ConsumeToken(_ context.Context, r *connect.Request[apiv1.ConsumeTokenRequest]) (*connect.Response[apiv1.ConsumeTokenResponse], error) {
	if r.Msg.GetSecret() != testSecret {
		return nil, connect.NewError(connect.CodePermissionDenied, context.Canceled)
	}
	return answer(h.fakeHost, &apiv1.ConsumeTokenResponse{
		Id: testToken().GetId(), Accessor: testToken().GetAccessor(), State: "active", Uses: 4, Remaining: 91, RepeatedAnswer: r.Msg.GetIdempotencyKey() == "again",
	})
}

func (h fakeToken) RenewToken(context.Context, *connect.Request[apiv1.RenewTokenRequest]) (*connect.Response[apiv1.RenewTokenResponse], error) {
	return answer(h.fakeHost, &apiv1.RenewTokenResponse{Token: testToken()})
}

func (h fakeToken) RevokeToken(context.Context, *connect.Request[apiv1.RevokeTokenRequest]) (*connect.Response[apiv1.RevokeTokenResponse], error) {
	return answer(h.fakeHost, &apiv1.RevokeTokenResponse{Token: testToken(), Revoked: 2})
}

// ListTokens answers one token a page, so that paging is tried.
func (h fakeToken) ListTokens(_ context.Context, r *connect.Request[apiv1.ListTokensRequest]) (*connect.Response[apiv1.ListTokensResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListTokensResponse{})
	}
	out := &apiv1.ListTokensResponse{Tokens: []*apiv1.TokenRecord{testToken()}}
	if r.Msg.GetPageToken() == "" {
		out.NextPageToken, out.Total = "x", 2
		if r.Msg.GetRequester() == "many" {
			out.Total = countedTokens
		}
	} else {
		out.Tokens[0].Accessor, out.Tokens[0].State, out.Tokens[0].Remaining = "zzzz0aYt2QmB91xw", "revoked", 0
	}
	return answer(h.fakeHost, out)
}

func (h fakeToken) GetToken(context.Context, *connect.Request[apiv1.GetTokenRequest]) (*connect.Response[apiv1.GetTokenResponse], error) {
	return answer(h.fakeHost, &apiv1.GetTokenResponse{Token: testToken()})
}
