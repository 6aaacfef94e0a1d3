package api

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// fakeLog is a log in memory.
type fakeLog struct {
	mu      sync.Mutex
	head    audit.Head
	records []*audit.Record
	filter  audit.Filter
	archive audit.ArchiveRequest
	fail    error
}

func (l *fakeLog) Append(ctx context.Context, records ...audit.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for _, r := range records {
		audit.Seal(ctx, &l.head, &r)
		l.records = append(l.records, &r)
	}
	return nil
}

func (l *fakeLog) all() []*audit.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*audit.Record{}, l.records...)
}

func (l *fakeLog) List(_ context.Context, filter audit.Filter) (audit.Page, error) {
	l.filter = filter
	return audit.Page{Records: l.all(), Next: "more"}, nil
}

func (l *fakeLog) Follow(context.Context, audit.Filter) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		for _, r := range l.all() {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (l *fakeLog) Verify(context.Context, ...string) (*audit.Report, error) {
	return &audit.Report{Records: 4, Fault: &audit.Fault{Seq: 5, Until: 9, Kind: audit.Rewritten, Detail: "d"}}, nil
}

func (l *fakeLog) Checkpoint(context.Context) (*audit.Checkpoint, error) {
	return &audit.Checkpoint{Size: 3, Note: "n"}, nil
}
func (l *fakeLog) Latest(context.Context) (*audit.Checkpoint, error) { return nil, nil }
func (l *fakeLog) PublicKey() string                                 { return "key" }
func (l *fakeLog) Export(_ context.Context, format audit.Format, to io.Writer) error {
	for _, r := range l.all() {
		if err := format.Write(to, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *fakeLog) Archive(_ context.Context, req audit.ArchiveRequest) ([]audit.Segment, error) {
	l.archive = req
	return []audit.Segment{{First: 1, Last: 1000, File: "f"}}, l.fail
}

func (l *fakeLog) Archives(context.Context) ([]audit.Segment, error) {
	return []audit.Segment{{First: 1, Last: 1000, File: "f", Bytes: 7, At: time.Unix(9, 0)}}, l.fail
}
func (l *fakeLog) ArchivedThrough(context.Context) (uint64, error) { return 1000, nil }

func TestAuditOverTheSocket(t *testing.T) {
	log := &fakeLog{}
	client := apiv1connect.NewAuditClient(serveWith(t, &fakes{}, log), "http://sop")
	req := connect.NewRequest(&apiv1.CheckpointRequest{})
	req.Header().Set(apierr.RequestID, "mine")
	req.Header().Set("Traceparent", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01")
	signed, err := client.Checkpoint(t.Context(), req)
	if err != nil || signed.Msg.GetCheckpoint().GetNote() != "n" || signed.Msg.GetCheckpoint().GetPublicKey() != "key" {
		t.Fatal(signed, err)
	}
	list, err := client.ListRecords(t.Context(), connect.NewRequest(&apiv1.ListRecordsRequest{Selection: &apiv1.AuditFilter{Action: "a.", Outcome: "denied"}}))
	if err != nil {
		t.Fatal(err)
	}
	if log.filter.Action != "a." || log.filter.Outcome != audit.Denied || log.filter.Limit != defaultPage || list.Msg.GetNextPageToken() == "" {
		t.Errorf("filter %+v", log.filter)
	}
	r := list.Msg.GetRecords()[0]
	if len(list.Msg.GetRecords()) != 1 || r.GetAction() != "access.audit.checkpoint" || r.GetOutcome() != "success" || r.GetRequestId() != "mine" ||
		r.GetTraceId() != "0af7651916cd43dd8448eb211c80319c" || !strings.HasPrefix(r.GetActor(), "uid:") {
		t.Errorf("record %v", r)
	}
	if _, err := client.ListRecords(t.Context(), connect.NewRequest(&apiv1.ListRecordsRequest{Selection: &apiv1.AuditFilter{Outcome: "maybe"}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("unknown outcome: %v", err)
	}
	if _, err := client.GetCheckpoint(t.Context(), connect.NewRequest(&apiv1.GetCheckpointRequest{})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("no checkpoint: %v", err)
	}
	verdict, err := client.Verify(t.Context(), connect.NewRequest(&apiv1.VerifyRequest{}))
	if f := verdict.Msg.GetFault(); err != nil || verdict.Msg.GetOk() || f.GetSeq() != 5 || f.GetUntil() != 9 || f.GetKind() != "rewritten" {
		t.Errorf("verdict %v, %v", verdict, err)
	}
}

func TestAuditStreams(t *testing.T) {
	log := &fakeLog{}
	if err := log.Append(t.Context(), make([]audit.Record, 400)...); err != nil {
		t.Fatal(err)
	}
	client := apiv1connect.NewAuditClient(serveWith(t, &fakes{}, log), "http://sop")
	watch, err := client.WatchRecords(t.Context(), connect.NewRequest(&apiv1.WatchRecordsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for watch.Receive() {
		if n++; watch.Msg().GetRecord().GetSeq() != n {
			t.Errorf("record %d came as number %d", watch.Msg().GetRecord().GetSeq(), n)
		}
	}
	if err := watch.Close(); err != nil || n != 400 {
		t.Errorf("%d records, %v", n, err)
	}
	export, err := client.ExportRecords(t.Context(), connect.NewRequest(&apiv1.ExportRecordsRequest{Format: "jsonl"}))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	pieces := 0
	for export.Receive() {
		pieces++
		text.WriteString(export.Msg().GetText())
	}
	// The permission to export is a record itself.
	if err := export.Close(); err != nil || pieces < 2 || strings.Count(text.String(), "\n") != 401 {
		t.Errorf("%d pieces, %d lines, %v", pieces, strings.Count(text.String(), "\n"), err)
	}
}

// Every decision is a record; without the record there is no permission but to
// look.
func TestDecisionsAreRecorded(t *testing.T) {
	log := &fakeLog{}
	looks := nexus.NewLooks(func(r audit.Record) { _ = log.Append(t.Context(), r) }) // as the host's queue does: nobody is told
	n := &nexus.Nexus{Audit: log, Looks: looks, Logger: hclog.NewNullLogger()}
	owner := nexus.WithCaller(t.Context(), nexus.PeerCaller(0, 7))
	stranger := nexus.WithCaller(t.Context(), nexus.PeerCaller(54321, 0))
	for _, tt := range []struct {
		ctx        context.Context
		permission string
		want       string
	}{
		{owner, "gap.read", "uid:0 access.gap.read success permitted"},
		{owner, "gap.read", ""}, // is counted
		{owner, "gap.suppress", "uid:0 access.gap.suppress success permitted"},
		{stranger, "gap.read", "uid:54321 access.gap.read denied NOT_PERMITTED"},
		{stranger, "gap.suppress", "uid:54321 access.gap.suppress denied NOT_PERMITTED"},
		{t.Context(), "host.reload", "unauthenticated access.host.reload denied UNAUTHENTICATED"},
		{owner, "", "uid:0 access. denied NO_PERMISSION_STATED"},
	} {
		log.records = nil
		err := n.Authorize(tt.ctx, tt.permission)
		got := ""
		for _, r := range log.all() {
			got += strings.Join([]string{r.Actor, r.Action, string(r.Outcome), r.Reason}, " ")
		}
		if got != tt.want || (err != nil) != strings.Contains(tt.want, "denied") {
			t.Errorf("%s: recorded %q, want %q; %v", tt.permission, got, tt.want, err)
		}
	}
	log.fail = sdk.Errorf(codes.Unavailable, "AUDIT_UNAVAILABLE", "disk full")
	if err := n.Authorize(owner, "gap.suppress"); sdk.FromError(err).Reason != "AUDIT_UNAVAILABLE" {
		t.Errorf("permitted without a record: %v", err)
	}
	if err := n.Authorize(owner, "gap.read"); err != nil {
		t.Errorf("reading needs no record: %v", err)
	}
	if err := n.Authorize(stranger, "gap.read"); sdk.FromError(err).Reason != "NOT_PERMITTED" {
		t.Errorf("a denial stays one: %v", err)
	}
	n.Audit = nil
	if err := n.Authorize(owner, "gap.suppress"); err == nil {
		t.Error("permitted without a log")
	}
}
