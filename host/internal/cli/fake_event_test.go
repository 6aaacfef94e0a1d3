package cli

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// fakeEvent serves two events, and ends.
type fakeEvent struct{ fakeHost }

func (h fakeEvent) Watch(_ context.Context, r *connect.Request[apiv1.WatchRequest], stream *connect.ServerStream[apiv1.WatchResponse]) error {
	if err := h.failure(); err != nil {
		return err
	}
	at := int64(40)
	if r.Msg.FromRevision != nil {
		at = r.Msg.GetFromRevision()
	}
	kind := strings.Join(append(r.Msg.GetKinds(), "open"), ".")
	for _, m := range []*apiv1.WatchResponse{
		{Revision: at},
		{Revision: at + 1, Event: &apiv1.EventRecord{
			Revision: at + 1, At: before(0), Kind: kind, Subject: "gap/1\x1b[31m", Actor: "scan 1", Reason: r.Msg.GetFilter(),
			Attributes: map[string]string{"severity": "high", "rule": "r", "path": "a.go"},
		}},
	} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}
