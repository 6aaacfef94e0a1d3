package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/gap"
)

// AuditStores are two sides of one database.
type AuditStores struct {
	Audit audit.Store
	Gaps  gap.Store
}

// RunAudit runs the suite of the audit log. open returns an empty store, and
// closes it when t ends.
func RunAudit(t *testing.T, open func(t *testing.T) AuditStores) {
	for name, test := range map[string]func(*testing.T, AuditStores){
		"RoundTrip":   testAuditRoundTrip,
		"Chain":       testAuditChain,
		"AllOrNone":   testAuditAllOrNone,
		"List":        testAuditList,
		"Pages":       testAuditPages,
		"Checkpoints": testAuditCheckpoints,
		"Changed":     testAuditChanged,
		"Concurrent":  testAuditConcurrent,
		"Archive":     testAuditArchive,
		"ArchiveNone": testAuditArchiveNone,
		"Before":      testAuditBefore,
		"Cursors":     testAuditCursors,
		"GapChanges":  testGapChanges,
		"GapScan":     testGapScan,
		"GapRollback": testGapRollback,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func auditAppend(t *testing.T, s audit.Store, records ...audit.Record) {
	t.Helper()
	if err := s.Append(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
}

func auditRecords(t *testing.T, s audit.Store) []*audit.Record {
	t.Helper()
	var out []*audit.Record
	for r, err := range s.Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// AuditKey makes a key for a test.
func AuditKey(t testing.TB) (*audit.Key, note.Verifier) {
	t.Helper()
	key, err := audit.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.ParseKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	return key, verifier
}

// VerifyAudit fails the test unless the log verifies, and returns the report.
func VerifyAudit(t testing.TB, s audit.Store, verifier note.Verifier) *audit.Report {
	t.Helper()
	report, err := audit.VerifyStore(t.Context(), s, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if report.Fault != nil {
		t.Fatalf("the log does not verify: %+v", report.Fault)
	}
	return report
}

func testAuditRoundTrip(t *testing.T, s AuditStores) {
	want := audit.Record{
		Time: epoch, Actor: "uid:1", Action: "a.b", Resource: "r/1", Outcome: audit.Denied, Reason: "why\x00\n☃",
		RequestID: "q", TraceID: "t", Token: "acc", Attributes: map[string]string{"k": `"<&>'`, "": "empty key"},
	}
	auditAppend(t, s.Audit, want, audit.Record{Actor: "x", Action: "y", Outcome: audit.Success})
	got := auditRecords(t, s.Audit)
	if len(got) != 2 {
		t.Fatalf("%d records", len(got))
	}
	r := got[0]
	if r.Seq != 1 || !r.Time.Equal(epoch) || r.Actor != "uid:1" || r.Action != "a.b" || r.Resource != "r/1" || r.Outcome != audit.Denied ||
		r.RequestID != "q" || r.TraceID != "t" || r.Token != "acc" || !maps.Equal(r.Attributes, want.Attributes) || r.PrevHash != (audit.Hash{}) {
		t.Errorf("got %+v", r)
	}
	if r.Reason != `why\u0000\u000a☃` {
		t.Errorf("reason %q", r.Reason)
	}
	if got[1].Attributes != nil || got[1].PrevHash != r.Hash || got[1].Time.IsZero() {
		t.Errorf("got %+v", got[1])
	}
}

func testAuditChain(t *testing.T, s AuditStores) {
	_, verifier := AuditKey(t)
	for i := range 20 {
		records := make([]audit.Record, i%4)
		auditAppend(t, s.Audit, records...)
	}
	if report := VerifyAudit(t, s.Audit, verifier); report.Records != 30 {
		t.Errorf("%d records", report.Records)
	}
	head, err := s.Audit.Head(t.Context())
	if err != nil || head.Size != 30 || head.Last != auditRecords(t, s.Audit)[29].Hash {
		t.Errorf("head %d, %v", head.Size, err)
	}
	n := 0
	for r, err := range s.Audit.Records(t.Context(), 28) {
		if err != nil || r.Seq != uint64(28+n) {
			t.Errorf("from 28: %v, %v", r, err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d records from the 28th on", n)
	}
}

func testAuditAllOrNone(t *testing.T, s AuditStores) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Audit.Append(ctx, audit.Record{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Append returned %v, want context.Canceled", err)
	}
	auditAppend(t, s.Audit)
	if got := auditRecords(t, s.Audit); len(got) != 0 {
		t.Errorf("%d records", len(got))
	}
}

func testAuditList(t *testing.T, s AuditStores) {
	for i := range 6 {
		auditAppend(t, s.Audit, audit.Record{
			Time: epoch.Add(time.Duration(i) * time.Second), Actor: fmt.Sprint("a", i%2), Action: []string{"gap.open", "gapless", "host.start"}[i%3],
			Resource: fmt.Sprint("r", i), Outcome: audit.Outcomes()[i%3],
		})
	}
	for _, tt := range []struct {
		filter audit.Filter
		want   string
	}{
		{audit.Filter{}, "654321"},
		{audit.Filter{Oldest: true}, "123456"},
		{audit.Filter{Actor: "a1"}, "642"},
		{audit.Filter{Action: "gap."}, "41"},
		{audit.Filter{Action: "gap"}, "5421"},
		{audit.Filter{Action: "%"}, ""},
		{audit.Filter{Resource: "r2"}, "3"},
		{audit.Filter{Outcome: audit.Denied}, "63"},
		{audit.Filter{Since: epoch.Add(2 * time.Second), Until: epoch.Add(4 * time.Second)}, "43"},
		{audit.Filter{After: 4}, "65"},
		{audit.Filter{After: 1, Oldest: true, Actor: "a0"}, "35"},
	} {
		page, err := s.Audit.List(t.Context(), tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, r := range page.Records {
			fmt.Fprint(&got, r.Seq)
		}
		if got.String() != tt.want || page.Next != "" || int(page.Total) != len(tt.want) {
			t.Errorf("%+v lists %s (next %q, %d in all), want %s", tt.filter, got.String(), page.Next, page.Total, tt.want)
		}
	}
}

func testAuditPages(t *testing.T, s AuditStores) {
	auditAppend(t, s.Audit, make([]audit.Record, 25)...)
	for _, oldest := range []bool{false, true} {
		for limit := 1; limit <= 26; limit += 5 {
			seen := make(map[uint64]bool)
			for filter := (audit.Filter{Limit: limit, Oldest: oldest}); ; {
				page, err := s.Audit.List(t.Context(), filter)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page.Records {
					seen[r.Seq] = true
				}
				if filter.Token = page.Next; page.Next == "" {
					break
				}
			}
			if len(seen) != 25 {
				t.Errorf("pages of %d hold %d records", limit, len(seen))
			}
		}
	}
	if _, err := s.Audit.List(t.Context(), audit.Filter{Token: "?"}); err == nil {
		t.Error("a made-up token was accepted")
	}
	for _, tt := range []struct {
		filter audit.Filter
		total  int64
	}{
		{audit.Filter{Limit: 10}, 25},
		{audit.Filter{Limit: 10, Oldest: true, After: 5}, 20},
		{audit.Filter{Limit: 10, Outcome: audit.Failure}, 0}, // nobody has counted them
	} {
		page, err := s.Audit.List(t.Context(), tt.filter)
		if err != nil || len(page.Records) != 10 || page.Total != tt.total {
			t.Errorf("%+v: %d records of %d, want %d; %v", tt.filter, len(page.Records), page.Total, tt.total, err)
		}
		tt.filter.Token = page.Next
		if page, err = s.Audit.List(t.Context(), tt.filter); err != nil || page.Total != 0 {
			t.Errorf("%+v: %d on the second page, %v", tt.filter, page.Total, err)
		}
	}
}

func testAuditCheckpoints(t *testing.T, s AuditStores) {
	key, verifier := AuditKey(t)
	log, err := audit.NewLog(audit.Options{Store: s.Audit, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := log.Latest(t.Context()); c != nil || err != nil {
		t.Errorf("checkpoint of an empty log: %v, %v", c, err)
	}
	for i := range 12 {
		auditAppend(t, s.Audit, make([]audit.Record, i)...)
		if _, err := log.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := log.Latest(t.Context()); err != nil || c.Size != 66 {
		t.Errorf("latest: %+v, %v", c, err)
	}
	if report := VerifyAudit(t, s.Audit, verifier); report.Signed != 66 || report.Checkpoints != 12 {
		t.Errorf("report: signed %d, %d checkpoints", report.Signed, report.Checkpoints)
	}
	again, err := log.Checkpoint(t.Context())
	all, listErr := s.Audit.Checkpoints(t.Context())
	if err := errors.Join(err, listErr); err != nil || again.Size != 66 || len(all) != 12 {
		t.Errorf("again: %+v, %d checkpoints, %v", again, len(all), err)
	}
}

func testAuditChanged(t *testing.T, s AuditStores) {
	changed := s.Audit.Changed()
	auditAppend(t, s.Audit, audit.Record{})
	<-changed
	select {
	case <-s.Audit.Changed():
		t.Error("changed without a change")
	default:
	}
}

func testAuditConcurrent(t *testing.T, s AuditStores) {
	_, verifier := AuditKey(t)
	const writers, rounds = 16, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				if i%5 == 0 {
					cancel() // and so is not there
				}
				err := s.Audit.Append(ctx, audit.Record{Actor: fmt.Sprint(w), Resource: fmt.Sprint(i)})
				if (err != nil) != (i%5 == 0) {
					t.Errorf("append %d of %d: %v", i, w, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if report := VerifyAudit(t, s.Audit, verifier); report.Records != writers*rounds*4/5 {
		t.Errorf("%d records", report.Records)
	}
}

func testGapChanges(t *testing.T, s AuditStores) {
	g := makeGap(t, nil)
	put(t, s.Gaps, g)
	service := gap.NewService(s.Gaps, nil)
	ctx := audit.WithOrigin(t.Context(), audit.Origin{RequestID: "req", TraceID: "trace", Token: "acc"})
	if _, err := service.Suppress(ctx, g.ID, "uid:1", "generated", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Reopen(ctx, g.ID, "uid:2", "mistake"); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Acknowledge(ctx, g.ID, "uid:3", "seen"); err != nil {
		t.Fatal(err)
	}
	got := auditRecords(t, s.Audit)
	if len(got) != 4 {
		t.Fatalf("%d records", len(got))
	}
	if r := got[1]; r.Action != "gap.suppress" || r.Actor != "uid:1" || r.Resource != "gap/"+g.ID || r.Reason != "generated" ||
		r.RequestID != "req" || r.TraceID != "trace" || r.Token != "acc" || r.Attributes["from"] != "open" || r.Attributes["workspace"] != "w" {
		t.Errorf("suppress: %+v", r)
	}
	if r := got[2]; r.Action != "gap.reopen" || r.Actor != "uid:2" {
		t.Errorf("reopen: %+v", r)
	}
	if r := got[3]; r.Action != "gap.acknowledge" || r.Actor != "uid:3" || r.Reason != "seen" || r.Attributes["to"] != "acknowledged" {
		t.Errorf("acknowledge: %+v", r)
	}
}

// A scan is one record, however many gaps it found.
func testGapScan(t *testing.T, s AuditStores) {
	var gaps []*gap.Gap
	var changes []gap.Change
	for i := range 300 {
		g := makeGap(t, nil)
		c := gap.Change{GapID: g.ID, At: epoch, To: gap.StateOpen, By: "scan 1"}
		if i%3 == 0 {
			c.From, c.To = gap.StateOpen, gap.StateResolved
		}
		gaps, changes = append(gaps, g), append(changes, c)
	}
	ctx := t.Context()
	if err := s.Gaps.Update(ctx, func(tx gap.Tx) error { return tx.Put(ctx, gaps, changes) }); err != nil {
		t.Fatal(err)
	}
	got := auditRecords(t, s.Audit)
	if len(got) != 1 || got[0].Action != "gap.scan" || got[0].Actor != "scan 1" || got[0].Resource != "workspace/w" ||
		got[0].Attributes["opened"] != "200" || got[0].Attributes["resolved"] != "100" || len(got[0].Attributes) != 3 {
		t.Fatalf("records: %+v", got)
	}
	if sum := historySum(t, s.Gaps, gaps); got[0].Attributes["changes_sha256"] != sum {
		t.Errorf("the record speaks for other changes than the history has: %s, want %s", got[0].Attributes["changes_sha256"], sum)
	}
}

// historySum hashes the last entry of the history of each gap as docs/audit.md
// says.
func historySum(t *testing.T, s gap.Store, gaps []*gap.Gap) string {
	t.Helper()
	slices.SortFunc(gaps, func(x, y *gap.Gap) int { return strings.Compare(x.ID, y.ID) })
	h := sha256.New()
	for _, g := range gaps {
		stored, err := s.Get(t.Context(), g.ID)
		if err != nil || len(stored.History) == 0 {
			t.Fatal(stored, err)
		}
		c := stored.History[len(stored.History)-1]
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(c.At.UnixNano())))
		for _, text := range []string{g.ID, string(c.From), string(c.To), c.By, c.Why} {
			h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
			h.Write([]byte(text))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func testGapRollback(t *testing.T, s AuditStores) {
	ctx := t.Context()
	g := makeGap(t, nil)
	err := s.Gaps.Update(ctx, func(tx gap.Tx) error {
		return errors.Join(tx.Put(ctx, []*gap.Gap{g}, []gap.Change{{GapID: g.ID, To: gap.StateOpen, By: "x"}}), errStop)
	})
	if !errors.Is(err, errStop) {
		t.Error(err)
	}
	if got := auditRecords(t, s.Audit); len(got) != 0 {
		t.Errorf("what was undone is recorded: %+v", got[0])
	}
	_, verifier := AuditKey(t)
	auditAppend(t, s.Audit, audit.Record{})
	VerifyAudit(t, s.Audit, verifier)
}
