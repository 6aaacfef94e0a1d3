package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// testKey has the form of a key, without its checksum.
const testKey = "sopk_4kFz0aYt2QmB91xw_0000000000000000000000000000000000000000000aaaaaa"

func testAgent() *apiv1.AgentRecord {
	return &apiv1.AgentRecord{
		Name: "agent-7", Trust: "exterior", Groups: []string{"builders", "night"}, State: "active", Reason: "enrolled",
		CreatedAt: before(time.Hour), CreatedBy: "uid:1000", ChangedAt: before(time.Minute), ExpiresAt: before(-48 * time.Hour), LastUsed: before(time.Minute),
		Keys: []*apiv1.AgentKey{
			{Accessor: "3kFz0aYt2QmB91xw", CreatedAt: before(time.Hour), EndsAt: before(-time.Hour)},
			{Accessor: "4kFz0aYt2QmB91xw", CreatedAt: before(time.Minute)},
		},
	}
}

// fakeAgent answers as in a scenario.
type fakeAgent struct{ fakeHost }

func (h fakeAgent) EnrollAgent(_ context.Context, r *connect.Request[apiv1.EnrollAgentRequest]) (*connect.Response[apiv1.EnrollAgentResponse], error) {
	if r.Msg.GetValidateOnly() {
		return answer(h.fakeHost, &apiv1.EnrollAgentResponse{})
	}
	return answer(h.fakeHost, &apiv1.EnrollAgentResponse{Key: testKey, Agent: testAgent()})
}

// ListAgents answers one agent a page, so that paging is tried.
func (h fakeAgent) ListAgents(_ context.Context, r *connect.Request[apiv1.ListAgentsRequest]) (*connect.Response[apiv1.ListAgentsResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListAgentsResponse{})
	}
	out := &apiv1.ListAgentsResponse{Agents: []*apiv1.AgentRecord{testAgent()}}
	if r.Msg.GetPageToken() == "" {
		out.NextPageToken = "x"
	} else {
		a := out.GetAgents()[0]
		a.Name, a.Trust, a.State, a.Groups, a.ExpiresAt, a.LastUsed = "ci", "system", "revoked", nil, nil, nil
	}
	return answer(h.fakeHost, out)
}

func (h fakeAgent) GetAgent(context.Context, *connect.Request[apiv1.GetAgentRequest]) (*connect.Response[apiv1.GetAgentResponse], error) {
	return answer(h.fakeHost, &apiv1.GetAgentResponse{Agent: testAgent()})
}

func (h fakeAgent) RotateAgent(_ context.Context, r *connect.Request[apiv1.RotateAgentRequest]) (*connect.Response[apiv1.RotateAgentResponse], error) {
	a := testAgent()
	a.Name = r.Msg.GetName()
	if a.GetName() == "root" {
		return answer(h.fakeHost, &apiv1.RotateAgentResponse{Agent: a})
	}
	return answer(h.fakeHost, &apiv1.RotateAgentResponse{Key: testKey, Agent: a})
}

func (h fakeAgent) RevokeAgent(context.Context, *connect.Request[apiv1.RevokeAgentRequest]) (*connect.Response[apiv1.RevokeAgentResponse], error) {
	return answer(h.fakeHost, &apiv1.RevokeAgentResponse{Agent: testAgent(), RevokedTokens: 2, ReleasedTasks: 1})
}

// WhoAmI knows one credential.
func (h fakeAgent) WhoAmI(_ context.Context, r *connect.Request[apiv1.WhoAmIRequest]) (*connect.Response[apiv1.WhoAmIResponse], error) {
	switch r.Header().Get("Authorization") {
	case "":
		return answer(h.fakeHost, &apiv1.WhoAmIResponse{Name: "uid:1000", Trust: "system", Method: "peer", Source: "uid:1000"})
	case "Bearer " + testKey:
		return answer(h.fakeHost, &apiv1.WhoAmIResponse{Name: "agent-7", Trust: "exterior", Method: "key", Groups: []string{"builders"}, Source: "uid:1000"})
	}
	return nil, connect.NewError(connect.CodeUnauthenticated, context.Canceled)
}
