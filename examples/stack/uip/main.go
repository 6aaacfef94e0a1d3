// Command uip stands for the user interaction protocol of the stack, as a third
// party would write it: a protocol plugin that imports the sdk and nothing else of
// SOP. It renders a report for people out of what ARP and SCP answer, which it
// asks for through the host.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

func main() {
	u := &uip{}
	sdk.Serve(protocol.Kind, sdk.Plugin[protocol.Protocol]{
		Name: "uip", Version: "1.0.0", Summary: "Renders reports for people out of what ARP and SCP know.",
		Configure: func(_ context.Context, c *sdk.Config) error {
			u.host = c.Host
			return nil
		},
		Impl: u,
	})
}

// uip implements [protocol.Protocol].
type uip struct {
	protocol.Standing
	host caller
}

// caller is the host, as far as it is needed.
type caller interface {
	CallProtocol(ctx context.Context, req *pluginv1.CallProtocolRequest) (*pluginv1.CallProtocolResponse, error)
}

// Activate implements [protocol.Protocol].
func (u *uip) Activate(_ context.Context, req *pluginv1.ActivateRequest) (*pluginv1.ActivateResponse, error) {
	return &pluginv1.ActivateResponse{Mode: u.Set(req.GetMode())}, nil
}

// Deactivate implements [protocol.Protocol].
func (u *uip) Deactivate(ctx context.Context, _ *pluginv1.DeactivateRequest) (*pluginv1.DeactivateResponse, error) {
	return &pluginv1.DeactivateResponse{}, u.Drain(ctx)
}

// Status implements [protocol.Protocol].
func (u *uip) Status(context.Context, *pluginv1.StatusRequest) (*pluginv1.StatusResponse, error) {
	st := u.Standing.Status()
	st.Operations = []string{"render", "echo"}
	return st, nil
}

// Handle implements [protocol.Protocol].
func (u *uip) Handle(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
	leave, err := u.Enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if !json.Valid(call.GetPayload()) {
		return nil, sdk.Errorf(codes.InvalidArgument, "UIP_PAYLOAD", "the payload is no JSON").WithRemedy("send one JSON value")
	}
	switch call.GetOperation() {
	case "render":
		return u.render(ctx, call)
	case "echo":
		return call.GetPayload(), nil
	}
	return nil, protocol.Unknown(call.GetOperation())
}

// HandleStream implements [protocol.Protocol]; a report is one piece.
func (u *uip) HandleStream(ctx context.Context, call *pluginv1.Call, send func(chunk []byte) error) error {
	result, err := u.Handle(ctx, call)
	if err != nil {
		return err
	}
	return send(result)
}

type plan struct {
	Plan []struct {
		Rank  int
		Path  string
		Rule  string
		Score int
		Why   string
	}
	Total int
}

type memory struct {
	Facts []struct{ Subject, Text string }
}

// render asks ARP for a plan and SCP for what is known of it, and writes both up.
func (u *uip) render(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
	var p plan
	if err := u.ask(ctx, call, "arp", "analyze", call.GetPayload(), &p); err != nil {
		return nil, err
	}
	var terms []string
	for _, s := range p.Plan {
		terms = append(terms, s.Path, s.Rule)
	}
	question, err := json.Marshal(map[string]any{"terms": terms, "limit": 5})
	if err != nil {
		return nil, err
	}
	var m memory
	if err := u.ask(ctx, call, "scp", "recall", question, &m); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"title": fmt.Sprintf("%d gaps in %d steps", p.Total, len(p.Plan)), "text": report(&p, &m)})
}

func report(p *plan, m *memory) string {
	var b strings.Builder
	for _, s := range p.Plan {
		fmt.Fprintf(&b, "%d. %s (%s): %s\n", s.Rank, s.Path, s.Rule, s.Why)
	}
	if len(m.Facts) > 0 {
		b.WriteString("\nWhat is known:\n")
	}
	for _, f := range m.Facts {
		fmt.Fprintf(&b, "  %s: %s\n", f.Subject, f.Text)
	}
	return b.String()
}

// ask calls another protocol through the host, under the token of the call.
func (u *uip) ask(ctx context.Context, call *pluginv1.Call, name, operation string, payload []byte, answer any) error {
	resp, err := u.host.CallProtocol(ctx, &pluginv1.CallProtocolRequest{Token: call.GetToken(), Protocol: name, Operation: operation, Payload: payload})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(resp.GetResult(), answer); err != nil {
		return sdk.Errorf(codes.Internal, "UIP_ANSWER", "%s answered %s with what is not understood: %w", name, operation, err).WithRemedy("look at %s", name)
	}
	return nil
}
