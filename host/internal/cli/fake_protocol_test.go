package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func testProtocol(name, state string) *apiv1.ProtocolStatus {
	p := &apiv1.ProtocolStatus{
		Name: name, State: state, Mode: "active", Wanted: "active", Since: before(time.Hour), By: "configuration", Reason: "activation is always",
		Activation: "always", DependsOn: []string{"scp"}, Calls: 7, Failures: 1, Refused: 2, LastCall: before(time.Minute), SelfTest: "passed",
		Detail: "up \x1b[31m", Operations: []string{"analyze"}, Counters: map[string]int64{"late": 1, "answered": 6},
	}
	if state == "failed" {
		p.Mode, p.Error, p.Remedy = "inactive", "the self-test failed", "mend it"
	}
	return p
}

// fakeProtocol answers as in a scenario.
type fakeProtocol struct{ fakeHost }

func (h fakeProtocol) ListProtocols(context.Context, *connect.Request[apiv1.ListProtocolsRequest]) (*connect.Response[apiv1.ListProtocolsResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListProtocolsResponse{})
	}
	return answer(h.fakeHost, &apiv1.ListProtocolsResponse{Protocols: []*apiv1.ProtocolStatus{testProtocol("arp", "active"), testProtocol("uip", "failed")}})
}

// CallProtocol answers with what it was asked.
func (h fakeProtocol) CallProtocol(_ context.Context, r *connect.Request[apiv1.CallProtocolRequest]) (*connect.Response[apiv1.CallProtocolResponse], error) {
	m := r.Msg
	result := `{"operation":"` + m.GetOperation() + `","token":"` + m.GetToken()[:6] + `","payload":` + m.GetPayload() + `}`
	return answer(h.fakeHost, &apiv1.CallProtocolResponse{Result: result, RequestId: "r1", Took: durationpb.New(3 * time.Millisecond)})
}

func (h fakeProtocol) StreamProtocol(_ context.Context, r *connect.Request[apiv1.StreamProtocolRequest], stream *connect.ServerStream[apiv1.StreamProtocolResponse]) error {
	if err := h.failure(); err != nil || r.Msg.GetValidateOnly() {
		return err
	}
	for _, piece := range []string{`{ "n": 1 }`, `{ "n": 2 }`} {
		if err := stream.Send(&apiv1.StreamProtocolResponse{Piece: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (h fakeProtocol) ActivateProtocol(_ context.Context, r *connect.Request[apiv1.ActivateProtocolRequest]) (*connect.Response[apiv1.ActivateProtocolResponse], error) {
	p := testProtocol(r.Msg.GetName(), "active")
	if r.Msg.GetMode() != "" {
		p.State = r.Msg.GetMode()
	}
	return answer(h.fakeHost, &apiv1.ActivateProtocolResponse{Protocol: p})
}

func (h fakeProtocol) DeactivateProtocol(_ context.Context, r *connect.Request[apiv1.DeactivateProtocolRequest]) (*connect.Response[apiv1.DeactivateProtocolResponse], error) {
	p := testProtocol(r.Msg.GetName(), "inactive")
	p.Reason = r.Msg.GetReason()
	return answer(h.fakeHost, &apiv1.DeactivateProtocolResponse{Protocol: p})
}
