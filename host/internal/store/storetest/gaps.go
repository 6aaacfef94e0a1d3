// Package storetest holds what every implementation of the features' Store
// interfaces must do. An implementation joins by calling Run from a test.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/gap"
)

// Run runs the suite. open returns an empty store, and closes it when t ends.
func Run(t *testing.T, open func(t *testing.T) gap.Store) {
	for name, test := range map[string]func(*testing.T, gap.Store){
		"RoundTrip":       testRoundTrip,
		"Replace":         testReplace,
		"Rollback":        testRollback,
		"PanicRollsBack":  testPanic,
		"Cancel":          testCancel,
		"References":      testReferences,
		"Selection":       testSelection,
		"ManyPaths":       testManyPaths,
		"List":            testList,
		"Pages":           testPages,
		"Counts":          testCounts,
		"Scans":           testScans,
		"ConcurrentWrite": testConcurrentWrite,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var epoch = time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)

func makeGap(t *testing.T, change func(*gap.Gap)) *gap.Gap {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	g := &gap.Gap{
		ID: id.String(), Fingerprint: "g1:" + uuid.NewString(), Workspace: "w", Detector: "docs", DetectorVersion: "1",
		Rule: "docs.readme", RuleVersion: "2", Type: gap.DocumentationIncomplete,
		Severity: gap.SeverityMedium, Confidence: gap.ConfidenceHigh,
		Location: gap.Location{Path: "a/b.go", Line: 3, EndLine: 4, Column: 5, Symbol: "S.m"},
		Message:  "message", Remedy: "remedy", Evidence: "line one\n\"quoted\" ünï ☃",
		State: gap.StateOpen, FirstSeen: epoch, LastSeen: epoch.Add(time.Nanosecond),
		Keys: gap.Keys{Snippet: 1 << 63, Context: 1<<64 - 1, Before: 2, After: 3, Message: 4},
	}
	if change != nil {
		change(g)
	}
	return g
}

func put(t *testing.T, s gap.Store, gaps ...*gap.Gap) {
	t.Helper()
	changes := make([]gap.Change, 0, len(gaps))
	for _, g := range gaps {
		changes = append(changes, gap.Change{GapID: g.ID, At: epoch, To: gap.StateOpen, By: "test", Why: "found"})
	}
	if err := s.Update(t.Context(), func(tx gap.Tx) error { return tx.Put(t.Context(), gaps, changes) }); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s gap.Store, ref string) *gap.Gap {
	t.Helper()
	g, err := s.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func selectGaps(t *testing.T, s gap.Store, sel gap.Selection) []*gap.Gap {
	t.Helper()
	var out []*gap.Gap
	err := s.Update(t.Context(), func(tx gap.Tx) (err error) {
		out, err = tx.Gaps(t.Context(), sel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, func(a, b *gap.Gap) int { return a.Line - b.Line })
	return out
}

func lines(gaps []*gap.Gap) []int {
	out := make([]int, 0, len(gaps))
	for _, g := range gaps {
		out = append(out, g.Line)
	}
	return out
}

func testRoundTrip(t *testing.T, s gap.Store) {
	until := epoch.Add(time.Hour)
	resolved := epoch.Add(2 * time.Hour)
	for _, g := range []*gap.Gap{
		makeGap(t, nil),
		makeGap(t, func(g *gap.Gap) { g.Symbol, g.Evidence, g.Remedy, g.Line, g.Column = "", "", "", 0, 0 }),
		makeGap(t, func(g *gap.Gap) {
			g.State = gap.StateSuppressed
			g.Suppression = &gap.Suppression{Reason: "r", By: "b", Until: &until, ContentHash: "c1:1"}
		}),
		makeGap(t, func(g *gap.Gap) {
			g.State, g.ResolvedAt, g.Resolution = gap.StateResolved, &resolved, gap.Fixed
			g.Suppression = &gap.Suppression{Reason: "for good", By: "b", ContentHash: "c1:1"}
		}),
	} {
		put(t, s, g)
		got := get(t, s, g.ID)
		want := *g
		want.History = []gap.Change{{GapID: g.ID, At: epoch, To: gap.StateOpen, By: "test", Why: "found"}}
		if !reflect.DeepEqual(got, &want) {
			t.Errorf("stored\n%+v, got\n%+v", &want, got)
		}
	}
}

func testReplace(t *testing.T, s gap.Store) {
	g := makeGap(t, nil)
	put(t, s, g)
	g.State, g.Path, g.Line, g.Message = gap.StateAcknowledged, "c.go", 9, "other"
	ctx := t.Context()
	err := s.Update(ctx, func(tx gap.Tx) error {
		change := gap.Change{GapID: g.ID, At: epoch.Add(time.Second), From: gap.StateOpen, To: gap.StateAcknowledged, By: "me", Why: "why"}
		return errors.Join(tx.Put(ctx, []*gap.Gap{g}, []gap.Change{change}), tx.Touch(ctx, []string{g.ID}, epoch.Add(time.Minute)))
	})
	if err != nil {
		t.Fatal(err)
	}
	got := get(t, s, g.ID)
	if len(got.History) != 2 || got.History[1].By != "me" || !got.LastSeen.Equal(epoch.Add(time.Minute)) {
		t.Errorf("got %+v", got)
	}
	if got.Location != g.Location || got.State != g.State || got.Message != "other" {
		t.Errorf("got %+v", got)
	}
}

var errStop = errors.New("stop")

func testRollback(t *testing.T, s gap.Store) {
	g := makeGap(t, nil)
	ctx := t.Context()
	err := s.Update(ctx, func(tx gap.Tx) error {
		return errors.Join(tx.Put(ctx, []*gap.Gap{g}, nil), errStop)
	})
	if !errors.Is(err, errStop) {
		t.Errorf("Update returned %v, want the error of the function", err)
	}
	if _, err := s.Get(ctx, g.ID); !errors.Is(err, gap.ErrNotFound) {
		t.Errorf("after the rollback Get returned %v", err)
	}
}

func testPanic(t *testing.T, s gap.Store) {
	g := makeGap(t, nil)
	ctx := t.Context()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Update(ctx, func(tx gap.Tx) error {
			if err := tx.Put(ctx, []*gap.Gap{g}, nil); err != nil {
				t.Error(err)
			}
			panic("stop")
		})
	}()
	put(t, s, makeGap(t, nil)) // the store is free again
	if _, err := s.Get(ctx, g.ID); !errors.Is(err, gap.ErrNotFound) {
		t.Errorf("after the panic Get returned %v", err)
	}
}

func testCancel(t *testing.T, s gap.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	g := makeGap(t, nil)
	err := s.Update(ctx, func(tx gap.Tx) error {
		if err := tx.Put(ctx, []*gap.Gap{g}, nil); err != nil {
			return err
		}
		cancel()
		return tx.Touch(ctx, []string{g.ID}, epoch)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update returned %v, want context.Canceled", err)
	}
	if _, err := s.Get(t.Context(), g.ID); !errors.Is(err, gap.ErrNotFound) {
		t.Errorf("after the cancel Get returned %v", err)
	}
}

func testReferences(t *testing.T, s gap.Store) {
	named := func(id, fingerprint string, state gap.State) *gap.Gap {
		return makeGap(t, func(g *gap.Gap) { g.ID, g.Fingerprint, g.State = id, fingerprint, state })
	}
	put(t, s,
		named("0198aaaa-0000-7000-8000-000000000001", "g1:1111111100", gap.StateOpen),
		named("0198aaaa-0000-7000-8000-000000000002", "g1:1111111122", gap.StateOpen),
		named("0198aaaa-0000-7000-8000-000000000003", "g1:3333333333", gap.StateResolved),
		named("0198bbbb-0000-7000-8000-000000000004", "g1:3333333333", gap.StateOpen),
		named("0198cccc-0000-7000-8000-000000000005", "g1:5555555555", gap.StateResolved),
		named("0198cccc-0000-7000-8000-000000000006", "g1:5555555555", gap.StateResolved),
	)
	for ref, want := range map[string]any{
		"0198aaaa-0000-7000-8000-000000000002": "2", "0198bbbb": "4", "g1:1111111122": "2", "1111111122": "2",
		"g1:11111111": gap.ErrAmbiguous, "0198aaaa": gap.ErrAmbiguous, "g1:33333333": "4", "g1:3333333333": "4",
		"g1:5555555555": gap.ErrAmbiguous, "": gap.ErrNotFound, "g1:": gap.ErrNotFound, "0198": gap.ErrNotFound,
		"nothing": gap.ErrNotFound, "%": gap.ErrNotFound, "' OR 1=1 --": gap.ErrNotFound,
	} {
		g, err := s.Get(t.Context(), ref)
		switch want := want.(type) {
		case string:
			if err != nil || !strings.HasSuffix(g.ID, want) {
				t.Errorf("Get(%q) = %v, %v; want the gap that ends in %s", ref, g, err, want)
			}
		case error:
			if !errors.Is(err, want) {
				t.Errorf("Get(%q) = %v, %v; want %v", ref, g, err, want)
			}
		}
	}
}

func testSelection(t *testing.T, s gap.Store) {
	soon, later := epoch.Add(time.Second), epoch.Add(time.Hour)
	n := 0
	add := func(change func(*gap.Gap)) {
		n++
		put(t, s, makeGap(t, func(g *gap.Gap) { g.Line = n; change(g) }))
	}
	add(func(g *gap.Gap) {})
	add(func(g *gap.Gap) { g.Path = "c.go" })
	add(func(g *gap.Gap) { g.Detector = "code" })
	add(func(g *gap.Gap) { g.Workspace = "v" })
	add(func(g *gap.Gap) { g.State = gap.StateResolved })
	add(func(g *gap.Gap) {
		g.State, g.Suppression = gap.StateSuppressed, &gap.Suppression{Reason: "r", Until: &soon}
	})
	add(func(g *gap.Gap) {
		g.State, g.Suppression = gap.StateSuppressed, &gap.Suppression{Reason: "r", Until: &later}
	})
	for _, tt := range []struct {
		sel  gap.Selection
		want []int
	}{
		{gap.Selection{Workspace: "w"}, []int{1, 2, 3, 6, 7}},
		{gap.Selection{Workspace: "w", Detector: "docs"}, []int{1, 2, 6, 7}},
		{gap.Selection{Workspace: "w", Paths: []string{"c.go", "none"}}, []int{2}},
		{gap.Selection{Workspace: "w", Paths: []string{}}, []int{}},
		{gap.Selection{Workspace: "w", Resolved: true}, []int{5}},
		{gap.Selection{Workspace: "w", Lapsed: soon}, []int{6}},
		{gap.Selection{Workspace: "v"}, []int{4}},
		{gap.Selection{}, []int{}},
	} {
		if got := lines(selectGaps(t, s, tt.sel)); !slices.Equal(got, tt.want) {
			t.Errorf("%+v selects %v, want %v", tt.sel, got, tt.want)
		}
	}
	for workspace, want := range map[string][]string{"w": {"code", "docs"}, "v": {"docs"}, "none": nil} {
		err := s.Update(t.Context(), func(tx gap.Tx) error {
			got, err := tx.Detectors(t.Context(), workspace)
			if !slices.Equal(got, want) {
				t.Errorf("detectors in %s: %v, want %v", workspace, got, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func testManyPaths(t *testing.T, s gap.Store) {
	const n = 2500
	gaps := make([]*gap.Gap, 0, n)
	paths, ids := make([]string, 0, n), make([]string, 0, n)
	for i := range n {
		g := makeGap(t, func(g *gap.Gap) { g.Line, g.Path = i, fmt.Sprintf("dir/%d.go", i) })
		gaps = append(gaps, g)
		paths = append(paths, g.Path)
		ids = append(ids, g.ID)
	}
	put(t, s, gaps...)
	at := epoch.Add(time.Minute)
	if err := s.Update(t.Context(), func(tx gap.Tx) error { return tx.Touch(t.Context(), ids, at) }); err != nil {
		t.Fatal(err)
	}
	got := selectGaps(t, s, gap.Selection{Workspace: "w", Paths: paths})
	if len(got) != len(gaps) {
		t.Fatalf("%d of %d gaps selected", len(got), len(gaps))
	}
	for _, g := range got {
		if !g.LastSeen.Equal(at) {
			t.Fatalf("gap at %s was last seen %v", g.Path, g.LastSeen)
		}
	}
}

func testList(t *testing.T, s gap.Store) {
	n := 0
	for _, path := range []string{"b.go", "a/z.go", "a/b/c.go", "a.go", "a0/x.go"} {
		for _, severity := range []gap.Severity{gap.SeverityLow, gap.SeverityCritical} {
			n++
			put(t, s, makeGap(t, func(g *gap.Gap) { g.Path, g.Severity, g.Line = path, severity, n }))
		}
	}
	put(t, s, makeGap(t, func(g *gap.Gap) {
		g.Path, g.Line, g.Workspace, g.State, g.Rule, g.Detector = "z", 99, "v", gap.StateResolved, "r", "d"
	}))
	for _, tt := range []struct {
		filter gap.Filter
		want   []int
	}{
		{gap.Filter{Workspace: "w"}, []int{8, 6, 4, 10, 2, 7, 5, 3, 9, 1}},
		{gap.Filter{Severity: gap.SeverityHigh}, []int{8, 6, 4, 10, 2}},
		{gap.Filter{Path: "a"}, []int{6, 4, 5, 3}},
		{gap.Filter{Path: "a/"}, []int{6, 4, 5, 3}},
		{gap.Filter{Path: "b.go"}, []int{2, 1}},
		{gap.Filter{Path: ".", Workspace: "v"}, []int{99}},
		{gap.Filter{States: []gap.State{gap.StateResolved, gap.StateVerifying}}, []int{99}},
		{gap.Filter{Rule: "r"}, []int{99}},
		{gap.Filter{Detector: "d"}, []int{99}},
		{gap.Filter{Detector: "'"}, []int{}},
	} {
		page, err := s.List(t.Context(), tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(page.Gaps); !slices.Equal(got, tt.want) || page.Next != "" {
			t.Errorf("%+v lists %v (next %q), want %v", tt.filter, got, page.Next, tt.want)
		}
	}
}

func testPages(t *testing.T, s gap.Store) {
	gaps := make([]*gap.Gap, 0, 25)
	for i := range cap(gaps) {
		gaps = append(gaps, makeGap(t, func(g *gap.Gap) { g.Severity = gap.Severity(1 + i%3); g.Line = i % 2 }))
	}
	put(t, s, gaps...)
	for limit := 1; limit <= 26; limit += 5 {
		seen := make(map[string]bool)
		filter := gap.Filter{Workspace: "w", Limit: limit}
		for {
			page, err := s.List(t.Context(), filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range page.Gaps {
				seen[g.ID] = true
			}
			if filter.Token = page.Next; page.Next == "" {
				break
			}
			if len(page.Gaps) != limit {
				t.Fatalf("a page of %d has %d", limit, len(page.Gaps))
			}
		}
		if len(seen) != len(gaps) {
			t.Errorf("pages of %d hold %d of %d gaps", limit, len(seen), len(gaps))
		}
	}
	if _, err := s.List(t.Context(), gap.Filter{Token: "?"}); err == nil {
		t.Error("a made-up token was accepted")
	}
}

func testCounts(t *testing.T, s gap.Store) {
	put(t, s, makeGap(t, nil), makeGap(t, nil), makeGap(t, func(g *gap.Gap) { g.Severity = gap.SeverityHigh }),
		makeGap(t, func(g *gap.Gap) { g.State = gap.StateResolved }), makeGap(t, func(g *gap.Gap) { g.Workspace = "v" }))
	all, err := s.Counts(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	one, err := s.Counts(t.Context(), "w")
	if err != nil {
		t.Fatal(err)
	}
	want := []gap.Count{
		{Workspace: "w", Severity: gap.SeverityHigh, State: gap.StateOpen, Gaps: 1},
		{Workspace: "w", Severity: gap.SeverityMedium, State: gap.StateOpen, Gaps: 2},
		{Workspace: "w", Severity: gap.SeverityMedium, State: gap.StateResolved, Gaps: 1},
	}
	if !slices.Equal(one, want) || len(all) != 4 {
		t.Errorf("counts %+v and %+v", one, all)
	}
}

func testScans(t *testing.T, s gap.Store) {
	ctx := t.Context()
	for i := range 120 {
		r := &gap.ScanResult{
			ID: uuid.NewString(), Workspace: "w", StartedAt: epoch.Add(time.Duration(i) * time.Second), New: i,
			Diagnostics: []gap.Diagnostic{{Reason: "R", Message: "m"}},
		}
		if err := s.Update(ctx, func(tx gap.Tx) error { return tx.RecordScan(ctx, r) }); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Scans(ctx, "w", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 50 || len(got) > 110 || got[0].New != 119 || got[1].New != 118 || len(got[0].Diagnostics) != 1 {
		t.Errorf("%d scans are kept, the latest is %+v", len(got), got[0])
	}
	if other, err := s.Scans(ctx, "v", 10); err != nil || len(other) != 0 {
		t.Errorf("scans of another workspace: %v, %v", other, err)
	}
}

func testConcurrentWrite(t *testing.T, s gap.Store) {
	g := makeGap(t, func(g *gap.Gap) { g.Line = 0 })
	put(t, s, g)
	const writers, rounds = 8, 10
	failures := make(chan error, 2*writers)
	for range writers {
		go func() {
			for range rounds {
				err := s.Update(t.Context(), func(tx gap.Tx) error {
					g, err := tx.Get(t.Context(), g.ID)
					if err != nil {
						return err
					}
					g.Line++
					return tx.Put(t.Context(), []*gap.Gap{g}, nil)
				})
				if err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
		go func() {
			for range rounds {
				if _, err := s.Get(t.Context(), g.ID); err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	for range 2 * writers {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	if got := get(t, s, g.ID); got.Line != writers*rounds {
		t.Errorf("%d of %d increments are left", got.Line, writers*rounds)
	}
}
