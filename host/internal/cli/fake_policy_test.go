package cli

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// fakePolicy answers with the default policies, or as in a scenario.
type fakePolicy struct {
	fakeHost
	apiv1connect.UnimplementedPolicyHandler
}

func (h fakePolicy) ListPolicies(context.Context, *connect.Request[apiv1.ListPoliciesRequest]) (*connect.Response[apiv1.ListPoliciesResponse], error) {
	list, diagnostics := startup.Policies(startup.PolicySource{})
	if diagnostics.HasErrors() {
		return nil, diagnostics
	}
	return answer(h.fakeHost, list)
}

func (h fakePolicy) Explain(_ context.Context, r *connect.Request[apiv1.ExplainRequest]) (*connect.Response[apiv1.ExplainResponse], error) {
	if h.scenario == "degraded" {
		return answer(h.fakeHost, &apiv1.ExplainResponse{Errors: []string{"broken (a.cedar:1): integer overflow"}, Source: "/etc/sop/policies"})
	}
	out, _, err := startup.ExplainPolicy(startup.PolicySource{}, r.Msg)
	if err != nil {
		return nil, err
	}
	return answer(h.fakeHost, out)
}
