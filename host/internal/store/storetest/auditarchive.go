package storetest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/sdk"
)

// segment returns records first to last as a segment, which must be those of
// the store that come after head; head moves.
func segment(t *testing.T, s audit.Store, key *audit.Key, first, last uint64) *audit.Segment {
	t.Helper()
	var head audit.Head
	var scratch audit.Head
	out := &audit.Segment{First: first, Last: last, File: "f", Bytes: 9, Sum: audit.Hash{1, 2}, At: epoch.Add(time.Hour)}
	for r, err := range s.Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		again := *r
		audit.Seal(context.Background(), &scratch, &again)
		if r.Seq == first {
			out.From = r.Time
		}
		if r.Seq == last {
			out.Until, head = r.Time, scratch
		}
	}
	c, err := audit.Sign(&head, epoch, key)
	if err != nil {
		t.Fatal(err)
	}
	out.End, out.Note = head, c.Note
	return out
}

// What was archived is left out at once, is removed in pieces, and comes back as
// it was remembered.
func testAuditArchive(t *testing.T, s AuditStores) {
	key, _ := AuditKey(t)
	const n = 2500 // more than are removed at a time
	records := make([]audit.Record, n)
	for i := range records {
		records[i] = audit.Record{Time: epoch.Add(time.Duration(i) * time.Second), Actor: "a"}
	}
	auditAppend(t, s.Audit, records...)
	whole := segment(t, s.Audit, key, 1, n-100)
	if err := s.Audit.Archive(t.Context(), whole, audit.Record{Actor: "archivist"}); err != nil {
		t.Fatal(err)
	}
	left := func() {
		t.Helper()
		got := auditRecords(t, s.Audit)
		if len(got) != 101 || got[0].Seq != n-99 || got[100].Actor != "archivist" || got[100].Seq != n+1 {
			t.Fatalf("%d records are left", len(got))
		}
		page, err := s.Audit.List(t.Context(), audit.Filter{Oldest: true, Limit: 1})
		if err != nil || len(page.Records) != 1 || page.Records[0].Seq != n-99 {
			t.Errorf("the list begins with %+v, %v", page.Records, err)
		}
	}
	left()
	rounds := 1
	for more := true; more; rounds++ {
		var err error
		if more, err = s.Audit.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		left()
	}
	if rounds < 3 {
		t.Errorf("all were removed in %d pieces", rounds)
	}
	if more, err := s.Audit.Remove(t.Context()); more || err != nil {
		t.Errorf("after the last: %v, %v", more, err)
	}
	got, err := s.Audit.Archived(t.Context())
	if err != nil || len(got) != 1 || got[0].End.Last != whole.End.Last || got[0].End.Root() != whole.End.Root() {
		t.Fatalf("remembered %d segments, %v", len(got), err)
	}
	if got[0].End, whole.End = (audit.Head{}), (audit.Head{}); !reflect.DeepEqual(&got[0], whole) {
		t.Errorf("remembered %+v", got[0])
	}
	head, err := s.Audit.Head(t.Context())
	if err != nil || head.Size != n+1 {
		t.Errorf("the log has %d records, %v", head.Size, err)
	}
}

// A segment that does not follow the last is refused, and with it the record
// that says so; so is one whose caller has gone.
func testAuditArchiveNone(t *testing.T, s AuditStores) {
	key, _ := AuditKey(t)
	auditAppend(t, s.Audit, make([]audit.Record, 20)...)
	refused := func(ctx context.Context, first uint64, code codes.Code) {
		t.Helper()
		err := s.Audit.Archive(ctx, segment(t, s.Audit, key, first, 15), audit.Record{})
		if err == nil || code != codes.OK && sdk.FromError(err).Code != code {
			t.Errorf("from %d: %v", first, err)
		}
		if all, err := s.Audit.Archived(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("archived %+v, %v", all, err)
		}
		if got := auditRecords(t, s.Audit); len(got) != 20 {
			t.Errorf("%d records", len(got))
		}
	}
	refused(t.Context(), 3, codes.Aborted)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	refused(gone, 1, codes.OK)
	if more, err := s.Audit.Remove(t.Context()); more || err != nil {
		t.Errorf("there is something to remove: %v, %v", more, err)
	}
	if _, err := s.Audit.Remove(gone); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func testAuditBefore(t *testing.T, s AuditStores) {
	before := func(at time.Time, want uint64) {
		t.Helper()
		if got, err := s.Audit.Before(t.Context(), at); err != nil || got != want {
			t.Errorf("before %s: %d, %v; want %d", at, got, err, want)
		}
	}
	before(epoch, 0)
	// The clock went back after the third.
	for _, second := range []int{0, 1, 5, 2, 3, 9} {
		auditAppend(t, s.Audit, audit.Record{Time: epoch.Add(time.Duration(second) * time.Second)})
	}
	before(epoch, 0)
	before(epoch.Add(time.Second), 1)
	before(epoch.Add(4*time.Second), 2) // the third is younger
	before(epoch.Add(9*time.Second), 5)
	before(epoch.Add(time.Minute), 6)
}

func testAuditCursors(t *testing.T, s AuditStores) {
	ctx := t.Context()
	for _, step := range []struct {
		name string
		seq  uint64
	}{{"mirror a", 7}, {"mirror b", 1}, {"mirror a", 9}, {"mirror b", 0}} {
		if err := s.Audit.PutCursor(ctx, step.name, step.seq); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Audit.Cursor(ctx, step.name); err != nil || got != step.seq {
			t.Errorf("%s: %d, %v", step.name, got, err)
		}
	}
	for name, want := range map[string]uint64{"mirror a": 9, "mirror b": 0, "mirror": 0} {
		if got, err := s.Audit.Cursor(ctx, name); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", name, got, err, want)
		}
	}
	if c, err := s.Audit.LastCheckpoint(ctx); c != nil || err != nil {
		t.Errorf("checkpoint of an empty log: %+v, %v", c, err)
	}
	for _, size := range []uint64{5, 30, 12} {
		if err := s.Audit.PutCheckpoint(ctx, &audit.Checkpoint{Size: size, Note: "n"}); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := s.Audit.LastCheckpoint(ctx); err != nil || c.Size != 30 {
		t.Errorf("last checkpoint %+v, %v", c, err)
	}
}
