package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (h fakeAudit) archives() []*apiv1.AuditArchive {
	if h.scenario == "quiet" {
		return nil
	}
	return []*apiv1.AuditArchive{{First: 1, Last: 1000, File: "audit-1.jsonl.gz", Bytes: 7, Sha256: "ab", From: before(time.Hour), Until: before(0)}}
}

func (h fakeAudit) ListArchives(context.Context, *connect.Request[apiv1.ListArchivesRequest]) (*connect.Response[apiv1.ListArchivesResponse], error) {
	return answer(h.fakeHost, &apiv1.ListArchivesResponse{Archives: h.archives()})
}

func (h fakeAudit) ArchiveRecords(context.Context, *connect.Request[apiv1.ArchiveRecordsRequest]) (*connect.Response[apiv1.ArchiveRecordsResponse], error) {
	return answer(h.fakeHost, &apiv1.ArchiveRecordsResponse{Archives: h.archives()})
}

func (h fakeAudit) ListSinks(context.Context, *connect.Request[apiv1.ListSinksRequest]) (*connect.Response[apiv1.ListSinksResponse], error) {
	out := &apiv1.ListSinksResponse{}
	if h.scenario != "quiet" {
		out.Sinks = []*apiv1.AuditSink{{
			Name: "mirror file /var/audit.jsonl", Role: "mirror", Kind: "file", Target: "/var/audit.jsonl", State: "failing", Sent: 41, Lag: 9,
			Failures: 2, FailingSince: before(time.Hour), Error: "disk full", Remedy: "make room",
		}}
	}
	return answer(h.fakeHost, out)
}
