package api

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// tokenHeader is the header, or gRPC metadata, in which a caller presents the
// token that it works under. Its type is what policy sees as token_type.
const tokenHeader = "Sop-Token"

// protocolRequest is a call of a protocol, however it is made.
type protocolRequest interface {
	GetProtocol() string
	GetOperation() string
	GetToken() string
}

// ask asks the nexus whether a request may be served: who asks is in ctx,
// and the token that is presented is in its header, or in the message where it is
// a call of a protocol. The context that it returns has both. It returns what policy
// was asked, too.
func (d *door) ask(ctx context.Context, spec connect.Spec, header http.Header, message any) (context.Context, question, error) {
	ctx = withPayload(ctx, message)
	if c, ok := message.(interface{ GetValidateOnly() bool }); ok && c.GetValidateOnly() {
		ctx = nexus.WithCheck(ctx)
	}
	secret := header.Get(tokenHeader)
	call, isCall := message.(protocolRequest)
	if isCall {
		ctx = withCallPayload(ctx, message)
		if secret == "" {
			secret = call.GetToken()
		}
	}
	ctx, presented, err := d.nexus.WithPresented(ctx, permission(spec), secret)
	if err != nil {
		return ctx, question{}, err
	}
	facts := make(map[string]any)
	if isCall {
		if facts, err = d.callFacts(ctx, call, presented, message); err != nil {
			return ctx, question{}, err
		}
	}
	if presented != nil {
		facts["token_type"] = string(presented.Type)
	}
	resource, err := d.resourceOf(ctx, message)
	if err != nil {
		return ctx, question{}, err
	}
	q := question{permission(spec), resource, facts}
	return ctx, q, d.nexus.AuthorizeOn(ctx, q.permission, q.resource, q.facts)
}

// question is what policy is asked, beside who asks.
type question struct {
	permission string
	resource   policy.Resource
	facts      map[string]any
}

// callFacts are what policy is told of a call of a protocol. A plugin calls from
// within the call that it serves, and from nowhere else.
func (d *door) callFacts(ctx context.Context, call protocolRequest, presented *nexus.Presented, message any) (map[string]any, error) {
	if _, chained := message.(*pluginv1.CallProtocolRequest); !chained {
		return d.nexus.CallFacts(call.GetProtocol(), call.GetOperation(), nil), nil
	}
	caller, _ := nexus.CallerFrom(ctx)
	parent, err := d.nexus.Parent(presented, caller, call.GetProtocol(), call.GetOperation())
	if err != nil {
		return nil, err
	}
	return d.nexus.CallFacts(call.GetProtocol(), call.GetOperation(), parent), nil
}

// withCallPayload ties records of a call of a protocol to its payload, rather than
// to the message, of which a token is a part.
func withCallPayload(ctx context.Context, message any) context.Context {
	return audit.WithPayload(ctx, audit.NewPayload(func() ([]byte, error) {
		switch m := message.(type) {
		case *apiv1.CallProtocolRequest:
			return []byte(m.GetPayload()), nil
		case *apiv1.StreamProtocolRequest:
			return []byte(m.GetPayload()), nil
		case *pluginv1.CallProtocolRequest:
			return m.GetPayload(), nil
		}
		return nil, nil
	}))
}
