package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// agentService serves sop.api.v1.Agent.
type agentService struct{ *nexus.Nexus }

// EnrollAgent implements the rpc.
func (s *agentService) EnrollAgent(ctx context.Context, req *connect.Request[apiv1.EnrollAgentRequest]) (*connect.Response[apiv1.EnrollAgentResponse], error) {
	spec := agent.Spec{
		Name: req.Msg.GetName(), Trust: agent.Trust(req.Msg.GetTrust()), Groups: req.Msg.GetGroups(),
		TTL: req.Msg.GetTtl().AsDuration(), By: by(ctx), Why: req.Msg.GetReason(),
	}
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.EnrollAgentResponse{}), s.Agents.CheckEnroll(ctx, spec)
	}
	key, a, err := s.Agents.Enroll(ctx, spec)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.EnrollAgentResponse{Key: key.Reveal(), Agent: agentRecord(a)}), nil
}

// ListAgents implements the rpc.
func (s *agentService) ListAgents(ctx context.Context, req *connect.Request[apiv1.ListAgentsRequest]) (*connect.Response[apiv1.ListAgentsResponse], error) {
	filter := agent.Filter{Group: req.Msg.GetGroup(), Limit: pageSize(req.Msg.GetPageSize()), Token: req.Msg.GetPageToken()}
	var err error
	if filter.Where, err = parseFilter(req.Msg.GetFilter(), agent.ListFields); err != nil {
		return nil, err
	}
	if filter.Order, err = parseOrder(req.Msg.GetOrderBy(), agent.ListFields); err != nil {
		return nil, err
	}
	for _, state := range req.Msg.GetStates() {
		filter.States = append(filter.States, agent.State(state))
	}
	filter.Trust = agent.Trust(req.Msg.GetTrust())
	if err := filter.Check(); err != nil {
		return nil, err
	}
	page, err := s.Agents.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListAgentsResponse{NextPageToken: page.Next, Total: page.Total}
	for _, a := range page.Agents {
		resp.Agents = append(resp.Agents, agentRecord(a))
	}
	return connect.NewResponse(resp), nil
}

// GetAgent implements the rpc.
func (s *agentService) GetAgent(ctx context.Context, req *connect.Request[apiv1.GetAgentRequest]) (*connect.Response[apiv1.GetAgentResponse], error) {
	a, err := s.Agents.Get(ctx, req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetAgentResponse{Agent: agentRecord(a)}), nil
}

// RotateAgent implements the rpc.
func (s *agentService) RotateAgent(ctx context.Context, req *connect.Request[apiv1.RotateAgentRequest]) (*connect.Response[apiv1.RotateAgentResponse], error) {
	r := agent.Rotation{Name: req.Msg.GetName(), Grace: req.Msg.GetGrace().AsDuration(), By: by(ctx), Why: req.Msg.GetReason()}
	if req.Msg.GetTtl() != nil {
		ttl := req.Msg.GetTtl().AsDuration()
		r.TTL = &ttl
	}
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.RotateAgentResponse{}), s.Agents.CheckRotate(ctx, r)
	}
	key, a, err := s.Agents.Rotate(ctx, r)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RotateAgentResponse{Key: key.Reveal(), Agent: agentRecord(a)}), nil
}

// RevokeAgent implements the rpc.
func (s *agentService) RevokeAgent(ctx context.Context, req *connect.Request[apiv1.RevokeAgentRequest]) (*connect.Response[apiv1.RevokeAgentResponse], error) {
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.RevokeAgentResponse{}), s.Agents.CheckRevoke(ctx, req.Msg.GetName(), req.Msg.GetReason())
	}
	a, lost, err := s.Nexus.RevokeAgent(ctx, req.Msg.GetName(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RevokeAgentResponse{
		Agent: agentRecord(a), RevokedTokens: int64(lost.Tokens), ReleasedTasks: int64(lost.Tasks),
	}), nil
}

// WhoAmI implements the rpc.
func (s *agentService) WhoAmI(ctx context.Context, _ *connect.Request[apiv1.WhoAmIRequest]) (*connect.Response[apiv1.WhoAmIResponse], error) {
	c, ok := nexus.CallerFrom(ctx)
	if !ok {
		return nil, sdk.Errorf(codes.Unauthenticated, "UNAUTHENTICATED", "the caller could not be identified")
	}
	return connect.NewResponse(&apiv1.WhoAmIResponse{
		Name: c.Name, Trust: string(c.Trust), Method: string(c.Method), Groups: c.Groups, Source: c.Source,
	}), nil
}

func agentRecord(a *agent.Agent) *apiv1.AgentRecord {
	r := &apiv1.AgentRecord{
		Name: a.Name, Trust: string(a.Trust), Groups: a.Groups, State: string(a.State), Reason: a.Reason,
		CreatedAt: stamp(a.CreatedAt), CreatedBy: a.CreatedBy, ChangedAt: stamp(a.ChangedAt),
		ExpiresAt: stamp(a.ExpiresAt), LastUsed: stamp(a.LastUsed),
	}
	for _, k := range a.Keys {
		r.Keys = append(r.Keys, &apiv1.AgentKey{Accessor: k.Accessor, CreatedAt: stamp(k.CreatedAt), EndsAt: stamp(k.EndsAt)})
	}
	return r
}
