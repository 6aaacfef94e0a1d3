package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// policyService serves sop.api.v1.Policy.
type policyService struct {
	*nexus.Nexus
	identities func() *Identities
}

// ListPolicies implements the rpc.
func (s *policyService) ListPolicies(_ context.Context, req *connect.Request[apiv1.ListPoliciesRequest]) (*connect.Response[apiv1.ListPoliciesResponse], error) {
	set := s.Policies()
	items, next, total, err := policyList.page(set.Policies(), req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListPoliciesResponse{
		Policies: policyRecords(items), Source: set.Source(), Digest: set.Digest(), NextPageToken: next, Total: int64(total),
	}), nil
}

// policyList orders the policies as they stand in their files.
var policyList = listing[*policy.Policy]{
	usual: "file, line, column",
	fields: filter.Schema{
		{Name: "id", Kind: filter.Text},
		{Name: "effect", Kind: filter.Word, Words: []string{"permit", "forbid"}},
		{Name: "file", Kind: filter.Path},
		{Name: "line", Kind: filter.Number},
		{Name: "column", Kind: filter.Number},
		{Name: "text", Kind: filter.Text},
	},
	value: func(p *policy.Policy, field string) filter.Value {
		switch field {
		case "line":
			return filter.Value{Number: int64(p.Line)}
		case "column":
			return filter.Value{Number: int64(p.Column)}
		}
		return filter.Value{Text: map[string]string{"id": p.ID, "effect": p.Effect, "file": p.File, "text": p.Text}[field]}
	},
}

// Explain implements the rpc.
func (s *policyService) Explain(ctx context.Context, req *connect.Request[apiv1.ExplainRequest]) (*connect.Response[apiv1.ExplainResponse], error) {
	full, err := s.complete(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	answer, err := ExplainPolicy(s.Policies(), full)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(answer), nil
}

// GetSchema implements the rpc.
func (s *policyService) GetSchema(context.Context, *connect.Request[apiv1.GetSchemaRequest]) (*connect.Response[apiv1.GetSchemaResponse], error) {
	return connect.NewResponse(&apiv1.GetSchemaResponse{Schema: policy.Schema()}), nil
}

// complete fills in what the host knows of the agent and of the resource and the
// request leaves out, so that it is asked what the door would ask.
func (s *policyService) complete(ctx context.Context, in *apiv1.ExplainRequest) (*apiv1.ExplainRequest, error) {
	out := proto.CloneOf(in)
	if who := out.GetPrincipal(); who.GetName() != "" {
		c, err := s.callerOf(ctx, who.GetName(), nexus.Method(who.GetMethod()))
		if err != nil {
			return nil, err
		}
		who.Trust, who.Method = cmp.Or(who.GetTrust(), string(c.Trust)), cmp.Or(who.GetMethod(), string(c.Method))
		if len(who.GetGroups()) == 0 {
			who.Groups = c.Groups
		}
	}
	about := out.GetResource()
	ref, err := policy.ParseRef(about.GetEntity())
	if err != nil {
		return out, nil //nolint:nilerr // who asks the policies is told
	}
	var known policy.Resource
	switch ref.Type {
	case policy.TypePatch:
		if known, err = s.PatchResource(ctx, ref.ID); err != nil {
			return nil, err
		}
	case policy.TypePlugin:
		known = pluginResource(ref.ID)
	default:
		return out, nil
	}
	about.Entity = known.String()
	if len(about.GetParents()) == 0 {
		for _, p := range known.In {
			about.Parents = append(about.Parents, p.String())
		}
	}
	given := about.GetAttributes()
	about.Attributes = nexus.FactTexts(known.Attributes)
	maps.Copy(about.Attributes, given)
	return out, nil
}

// callerOf is who calls under a name, proven by a method: whom the configuration
// maps to it, the agent that was enrolled with it, or the process of a uid. Without
// a method it is the first of them that there is; anybody else is a stranger.
func (s *policyService) callerOf(ctx context.Context, name string, method nexus.Method) (nexus.Caller, error) {
	if c, ok := s.identities().agents[name]; ok && method != nexus.MethodKey {
		return c, nil
	}
	if s.Agents != nil && (method == "" || method == nexus.MethodKey) {
		a, err := s.Agents.Get(ctx, name)
		if err == nil {
			return nexus.AgentCaller(a), nil
		}
		if !errors.Is(err, agent.ErrNotFound) {
			return nexus.Caller{}, err
		}
	}
	if id, ok := strings.CutPrefix(name, "uid:"); ok {
		if uid, err := strconv.ParseUint(id, 10, 32); err == nil {
			return nexus.PeerCaller(uint32(uid), 0), nil
		}
	}
	return nexus.Caller{Name: name, Trust: nexus.Exterior, Method: nexus.MethodPeer}, nil
}

// PolicyList converts a whole set.
func PolicyList(set *policy.Set) *apiv1.ListPoliciesResponse {
	all := set.Policies()
	return &apiv1.ListPoliciesResponse{Policies: policyRecords(all), Source: set.Source(), Digest: set.Digest(), Total: int64(len(all))}
}

// ExplainPolicy asks a set what the request says.
func ExplainPolicy(set *policy.Set, in *apiv1.ExplainRequest) (*apiv1.ExplainResponse, error) {
	req, err := policyRequest(in)
	if err != nil {
		return nil, err
	}
	d := set.Decide(req)
	out := &apiv1.ExplainResponse{
		Allow: d.Allow, Policies: policyRecords(d.Policies), ByDefault: d.Default, Source: set.Source(),
		Principal: &apiv1.PolicyPrincipal{
			Name: req.Principal.Name, Trust: req.Principal.Trust, Method: req.Principal.Method, Groups: req.Principal.Groups,
		},
		Resource: &apiv1.PolicyResource{
			Entity: req.Resource.String(), Parents: in.GetResource().GetParents(), Attributes: in.GetResource().GetAttributes(),
		},
	}
	for _, f := range d.Errors {
		if f.Policy == nil {
			return nil, badQuestion(f.Message)
		}
		out.Errors = append(out.Errors, f.String())
	}
	return out, nil
}

func badQuestion(why string) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "POLICY_REQUEST", "policy cannot be asked this: %s", why).
		WithRemedy("`sop policy schema` shows who may do what on what, with which attributes and context")
}

// policyRequest converts the request; what is left out is an exterior peer, and
// the host.
func policyRequest(in *apiv1.ExplainRequest) (*policy.Request, error) {
	out := &policy.Request{
		Principal: policy.Agent{
			Name: in.GetPrincipal().GetName(), Trust: in.GetPrincipal().GetTrust(),
			Method: in.GetPrincipal().GetMethod(), Groups: in.GetPrincipal().GetGroups(),
		},
		Action: in.GetAction(), Resource: policy.TheHost(), Context: values(in.GetContext()),
	}
	switch out.Principal.Trust {
	case "":
		out.Principal.Trust = string(nexus.Exterior)
	case string(nexus.System), string(nexus.Exterior):
	default:
		return nil, badQuestion("an agent is trusted as system or as exterior")
	}
	if out.Principal.Method == "" {
		out.Principal.Method = string(nexus.MethodPeer)
	}
	if in.GetResource().GetEntity() == "" {
		if on := policy.DoneOn(out.Action); len(on) > 0 && !slices.Contains(on, policy.TypeHost) {
			return nil, badQuestion(fmt.Sprintf("%s is done on %s, and none is named", out.Action, strings.Join(on, " or "))).
				WithRemedy("name one: --resource %s::ID", on[0]).WithField("resource.entity", "")
		}
		return out, nil
	}
	ref, err := policy.ParseRef(in.GetResource().GetEntity())
	if err != nil {
		return nil, badQuestion(err.Error())
	}
	out.Resource = policy.Resource{Ref: ref, Attributes: values(in.GetResource().GetAttributes())}
	for _, p := range in.GetResource().GetParents() {
		parent, err := policy.ParseRef(p)
		if err != nil {
			return nil, badQuestion(err.Error())
		}
		out.Resource.In = append(out.Resource.In, parent)
	}
	return out, nil
}

func values(texts map[string]string) map[string]any {
	out := make(map[string]any, len(texts))
	for name, text := range texts {
		out[name] = text
	}
	return out
}

func policyRecords(policies []*policy.Policy) []*apiv1.PolicyRecord {
	out := make([]*apiv1.PolicyRecord, len(policies))
	for i, p := range policies {
		out[i] = &apiv1.PolicyRecord{Id: p.ID, Effect: p.Effect, File: p.File, Line: int32(p.Line), Column: int32(p.Column), Text: p.Text}
	}
	return out
}
