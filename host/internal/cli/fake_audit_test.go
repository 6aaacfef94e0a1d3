package cli

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

var testRecords = []*apiv1.AuditRecord{
	{
		Seq: 3, Time: before(time.Minute), Actor: "uid:1000", Action: "gap.suppress", Resource: "gap/019cb000", Outcome: "success", Reason: "generated",
		RequestId: "r-1", Attributes: map[string]string{"from": "open", "to": "suppressed"}, PrevHash: strings.Repeat("b", 64), Hash: strings.Repeat("c", 64),
	},
	{Seq: 2, Time: before(2 * time.Minute), Actor: "uid:7", Action: "access.gap.read", Resource: "permission/gap.read", Outcome: "denied", Reason: "NOT_PERMITTED"},
	{Seq: 1, Time: before(time.Hour), Actor: "host", Action: "host.start", Resource: "host", Outcome: "success", Reason: "a\x1b[31m"},
}

// fakeAudit answers as in a scenario.
type fakeAudit struct {
	fakeHost
	apiv1connect.UnimplementedAuditHandler
}

// ListRecords answers one record a page, so that paging is tried.
func (h fakeAudit) ListRecords(_ context.Context, r *connect.Request[apiv1.ListRecordsRequest]) (*connect.Response[apiv1.ListRecordsResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListRecordsResponse{})
	}
	i := len(r.Msg.GetPageToken())
	size := min(int(r.Msg.GetPageSize()), len(testRecords)-i)
	if r.Msg.GetSelection() != nil {
		size = 1
	}
	out := &apiv1.ListRecordsResponse{Records: testRecords[i : i+size]}
	if !r.Msg.GetArchived() {
		out.Archived = 7
	}
	if r.Msg.GetOrderBy() == "" && i == 0 {
		out.Total = int64(len(testRecords))
	}
	if i+size < len(testRecords) {
		out.NextPageToken = strings.Repeat("x", i+size)
	}
	return answer(h.fakeHost, out)
}

func (h fakeAudit) WatchRecords(_ context.Context, r *connect.Request[apiv1.WatchRecordsRequest], stream *connect.ServerStream[apiv1.WatchRecordsResponse]) error {
	for i := range 2 {
		next := &apiv1.AuditRecord{Seq: r.Msg.GetAfter() + 1 + int64(i), Time: before(0), Actor: "host", Action: "host.stop", Outcome: "success"}
		if err := stream.Send(&apiv1.WatchRecordsResponse{Record: next}); err != nil {
			return err
		}
	}
	return h.failure()
}

func brokenLog() *apiv1.VerifyResponse {
	return &apiv1.VerifyResponse{
		Records: 41, Checkpoints: 1, Signed: 40, Took: durationpb.New(time.Millisecond),
		Fault: &apiv1.AuditFault{Seq: 42, Until: 42, Kind: "edited", Detail: "record 42 is not what was written"},
	}
}

func intactLog() *apiv1.VerifyResponse {
	return &apiv1.VerifyResponse{Ok: true, Records: 50, Checkpoints: 2, Signed: 48, Root: "ab", Took: durationpb.New(1500 * time.Microsecond)}
}

func (h fakeAudit) Verify(_ context.Context, r *connect.Request[apiv1.VerifyRequest]) (*connect.Response[apiv1.VerifyResponse], error) {
	if h.scenario == "degraded" {
		return answer(h.fakeHost, brokenLog())
	}
	out := intactLog()
	out.Checkpoints += int64(len(r.Msg.GetCheckpoints()))
	return answer(h.fakeHost, out)
}

func (h fakeAudit) checkpoint() *apiv1.AuditCheckpoint {
	return &apiv1.AuditCheckpoint{Size: 50, Root: "ab", Time: before(0), Note: "sop-audit-1\n50\nqw==\n\n— sop-audit-1 sig\n", PublicKey: "sop-audit-1+0+k"}
}

func (h fakeAudit) Checkpoint(context.Context, *connect.Request[apiv1.CheckpointRequest]) (*connect.Response[apiv1.CheckpointResponse], error) {
	return answer(h.fakeHost, &apiv1.CheckpointResponse{Checkpoint: h.checkpoint()})
}

func (h fakeAudit) GetCheckpoint(context.Context, *connect.Request[apiv1.GetCheckpointRequest]) (*connect.Response[apiv1.GetCheckpointResponse], error) {
	return answer(h.fakeHost, &apiv1.GetCheckpointResponse{Checkpoint: h.checkpoint()})
}

func (h fakeAudit) ExportRecords(_ context.Context, r *connect.Request[apiv1.ExportRecordsRequest], stream *connect.ServerStream[apiv1.ExportRecordsResponse]) error {
	for _, line := range []string{"1 " + r.Msg.GetFormat() + "\n", "2 " + r.Msg.GetFormat() + "\n"} {
		if err := stream.Send(&apiv1.ExportRecordsResponse{Text: line}); err != nil {
			return err
		}
	}
	return h.failure()
}

func (e engineScenario) verifyAudit(_ context.Context, v startup.AuditVerification) (*apiv1.VerifyResponse, error) {
	if e == "tampered" {
		return brokenLog(), nil
	}
	out := intactLog()
	if v.Export != "" {
		out.Checkpoints = int64(len(v.Checkpoints))
	}
	return out, e.err()
}
