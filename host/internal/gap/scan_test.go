package gap_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const body = "package a\n\nfunc f() {\n\t// TODO: one\n\tcall()\n}\n\nfunc g() {\n\tother()\n\t// TODO: two\n}\n"

// The gaps of a detector end with its block, and return with it; what is not in
// service for now keeps its own.
func TestScanRetiresDetectors(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	scan := func(configured []string, detectors ...gap.Detector) *gap.ScanResult {
		t.Helper()
		result, err := r.scanner.Scan(t.Context(), gap.Target{Workspace: r.name, Walker: w, Detectors: detectors, Configured: configured})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	r.want(scan([]string{d.Name()}, d), 2, 0, 0, 0)
	r.want(scan([]string{d.Name(), "more"}), 0, 0, 0, 2) // it has failed, or is switched off
	r.want(scan(nil), 0, 0, 0, 2)
	r.want(scan([]string{"more"}), 0, 0, 2, 0)
	for _, g := range r.gaps(gap.StateResolved) {
		if g.Resolution != gap.RuleRetired || g.History != nil {
			t.Errorf("%+v", g)
		}
	}
	r.want(scan([]string{}), 0, 0, 0, 0)
	r.want(scan([]string{d.Name()}, d), 0, 2, 0, 0)
}

func TestScanLifeOfAGap(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body, "b.go": "package b\n"})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)

	r.want(r.scan(d), 2, 0, 0, 0)
	first := r.gaps()[0]

	result := r.scan(d) // nothing changed
	r.want(result, 0, 0, 0, 2)
	if result.Detectors[0].Asked || !result.Complete || len(d.starts) != 1 || result.Skipped["generated"] != 2 {
		t.Errorf("the detector was asked %d times: %+v", len(d.starts), result)
	}

	w.write("a.go", "// new head\n"+strings.ReplaceAll(body, "\t", "    ")) // moved and reindented
	r.want(r.scan(d), 0, 0, 0, 2)
	if got := r.gaps()[0]; got.ID != first.ID || got.Line != first.Line+1 || got.Fingerprint != first.Fingerprint {
		t.Errorf("%+v became %+v", first, got)
	}
	if !slices.Equal(d.sent, []string{"a.go"}) || d.starts[1].GetBaseRevision() == "" {
		t.Errorf("the detector was sent %v with base %q", d.sent, d.starts[1].GetBaseRevision())
	}

	w.write("a.go", strings.Replace(body, "// TODO: one", "", 1)) // fixed
	r.want(r.scan(d), 0, 0, 1, 1)
	gone := r.the(gap.StateResolved)
	if gone.ID != first.ID || gone.Resolution != gap.Fixed || gone.ResolvedAt == nil {
		t.Errorf("resolved: %+v", gone)
	}

	w.write("a.go", body) // returns
	r.want(r.scan(d), 0, 1, 0, 1)
	back, err := r.service.Get(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	states := make([]gap.State, 0, len(back.History))
	for _, c := range back.History {
		states = append(states, c.To)
	}
	if !slices.Equal(states, []gap.State{gap.StateOpen, gap.StateResolved, gap.StateOpen}) || back.ResolvedAt != nil {
		t.Errorf("history %v of %+v", states, back)
	}

	w.files["moved/c.go"], w.times["moved/c.go"] = body, 99 // renamed
	delete(w.files, "a.go")
	r.want(r.scan(d), 0, 0, 0, 2)
	if got, err := r.service.Get(t.Context(), first.ID); err != nil || got.Path != "moved/c.go" {
		t.Errorf("after the rename: %+v, %v", got, err)
	}

	delete(w.files, "moved/c.go")
	r.want(r.scan(d), 0, 0, 2, 0)
	if got := r.gaps(gap.StateResolved); len(got) != 2 || got[0].Resolution != gap.TargetRemoved {
		t.Errorf("after the removal: %+v", got)
	}
	if n := len(d.starts); n != 6 {
		t.Errorf("the detector was asked %d times, want 6", n)
	}
}

// What looks like a gap that was worked at, in a file that has come since, is
// another one: the work has mended what it was for, and is not taken back for what
// nobody has worked at. Without work, and where the file has gone, it has moved.
func TestCopyOfWhatWasMended(t *testing.T) {
	for name, tt := range map[string]struct {
		state gap.State
		gone  bool
		moves bool
	}{
		"nobody has worked at it": {state: gap.StateTicketed, moves: true},
		"worked at":               {state: gap.StateInProgress},
		"integrated":              {state: gap.StateVerifying},
		"integrated, and renamed": {state: gap.StateVerifying, gone: true, moves: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(map[string]string{"a.go": strings.Split(body, "func g")[0]})
			r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
			r.scan(d)
			first := r.the()
			r.follow(first, tt.state)
			w.write("copy.go", w.files["a.go"])
			w.write("a.go", "package a\n")
			if tt.gone {
				delete(w.files, "a.go")
			}
			result := r.scan(d)
			if tt.moves {
				r.want(result, 0, 0, 0, 1)
				if got := r.the(); got.ID != first.ID || got.Path != "copy.go" {
					t.Errorf("it is %+v", got)
				}
				return
			}
			r.want(result, 1, 0, 1, 0)
			if got := r.the(gap.StateResolved); got.ID != first.ID || got.Resolution != gap.Fixed {
				t.Errorf("what was mended is %+v", got)
			}
			if got := r.the(gap.StateOpen); got.Path != "copy.go" {
				t.Errorf("the copy is %+v", got)
			}
		})
	}
}

// A file that several detectors skip is one file.
func TestSkippedFilesCountOnce(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	skipper := func(name string, skipped map[string]int64) *fake {
		return &fake{name: name, version: "1", generation: "g1", rules: []*pluginv1.Rule{todoRule}, answer: func(f *fake, p *pipe) error {
			if _, err := f.receive(p); err != nil {
				return err
			}
			return p.reply(&pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{Skipped: skipped}})
		}}
	}
	a := skipper("a", map[string]int64{"generated": 2, "binary": 1})
	b := skipper("b", map[string]int64{"generated": 3, "unsupported": 4})
	r, want := newRig(t, w, gap.ScanOptions{}), map[string]int64{"generated": 3, "binary": 1, "unsupported": 4}
	for range 2 { // the second time nobody is asked
		if got := r.scan(a, b).Skipped; !maps.Equal(got, want) {
			t.Errorf("skipped: %v, want %v", got, want)
		}
	}
}

func TestResolvedOnlyByProof(t *testing.T) {
	fixed := map[string]string{"a/x.go": "package a\n", "b/y.go": body}
	for name, tt := range map[string]struct {
		second   func(w *world, d *fake)
		resolved int
		how      gap.Resolution
	}{
		"covered":     {func(*world, *fake) {}, 2, gap.Fixed},
		"not covered": {func(w *world, _ *fake) { w.unreadable["a/x.go"] = true }, 0, ""},
		"failed": {func(_ *world, d *fake) {
			honest := d.answer
			d.answer = func(f *fake, p *pipe) error { return errors.Join(honest(f, p), errors.New("boom")) }
		}, 0, ""},
		"cut off": {func(_ *world, d *fake) {
			d.answer = func(f *fake, p *pipe) error {
				_, err := f.receive(p)
				return errors.Join(err, p.reply(&pluginv1.ScanResponse{Covered: []string{"a/x.go"}}))
			}
		}, 0, ""},
		"rules unknown":    {func(_ *world, d *fake) { d.rulesErr = errors.New("boom") }, 0, ""},
		"removed":          {func(w *world, _ *fake) { delete(w.files, "a/x.go") }, 2, gap.TargetRemoved},
		"removed unseen":   {func(w *world, _ *fake) { delete(w.files, "a/x.go"); w.incomplete = []string{"a"} }, 0, ""},
		"directory hidden": {func(w *world, _ *fake) { w.incomplete = []string{"a"} }, 0, ""},
		"rule retired": {func(_ *world, d *fake) {
			d.rules = []*pluginv1.Rule{{Id: "another", Version: "1"}}
		}, 4, gap.RuleRetired},
		"rule version changed": {func(_ *world, d *fake) { d.rules = []*pluginv1.Rule{{Id: "todo", Version: "2"}} }, 2, gap.RuleRetired},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(map[string]string{"a/x.go": body, "b/y.go": body})
			r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
			r.want(r.scan(d), 4, 0, 0, 0)
			w.write("a/x.go", fixed["a/x.go"])
			tt.second(w, d)
			result := r.scan(d)
			resolved := r.gaps(gap.StateResolved)
			if result.Resolved != tt.resolved || len(resolved) != tt.resolved {
				t.Fatalf("%d resolved, want %d: %+v", result.Resolved, tt.resolved, result)
			}
			for _, g := range resolved {
				if g.Resolution != tt.how {
					t.Errorf("resolved as %s, want %s", g.Resolution, tt.how)
				}
			}
			if tt.how == "" && name != "removed unseen" && name != "directory hidden" && result.DiagnosticsTotal == 0 {
				t.Error("nothing says why")
			}
		})
	}
}

func TestHiddenRemovalIsNoticedLater(t *testing.T) {
	w := newWorld(map[string]string{"a/x.go": body, "b/y.go": "package b\n"})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	r.want(r.scan(d), 2, 0, 0, 0)
	delete(w.files, "a/x.go")
	w.incomplete = []string{"a"}
	r.want(r.scan(d), 0, 0, 0, 2)
	w.incomplete = nil
	r.want(r.scan(d), 0, 0, 2, 0)
}

func TestUnreadableFileIsTriedAgain(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body, "b.go": body})
	w.unreadable["a.go"] = true
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	r.want(r.scan(d), 2, 0, 0, 0)
	if result := r.scan(d); result.DiagnosticsTotal != 1 || !slices.Equal(d.sent, []string{"a.go"}) {
		t.Errorf("sent %v: %+v", d.sent, result.Diagnostics)
	}
	w.unreadable = nil
	result := r.scan(d)
	r.want(result, 2, 0, 0, 2)
	if result.DiagnosticsTotal != 0 {
		t.Errorf("diagnostics remain: %+v", result.Diagnostics)
	}
}

func TestUnknownManifestIsSentWhole(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body, "b.go": "package b\n"})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	r.scan(d)
	d.revision = "lost"
	w.write("b.go", "package b // TODO\n")
	r.want(r.scan(d), 1, 0, 0, 2)
	if !slices.Equal(d.sent, []string{"a.go", "b.go"}) {
		t.Errorf("sent %v", d.sent)
	}
	d.generation = "g2"
	r.want(r.scan(d), 0, 0, 0, 3)
	if last := d.starts[len(d.starts)-1]; last.GetBaseRevision() != "" {
		t.Error("a new generation was sent a delta")
	}
}

func TestOneDetectorFailsTheOtherCounts(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, good := newRig(t, w, gap.ScanOptions{}), todos(w)
	bad := &fake{name: "bad", rules: good.rules, answer: func(*fake, *pipe) error {
		return sdk.Errorf(codes.Internal, "BOOM", "it broke").WithRemedy("mend it")
	}}
	result := r.scan(bad, good)
	r.want(result, 2, 0, 0, 0)
	if result.Complete || result.Detectors[0].Complete || !result.Detectors[1].Complete {
		t.Errorf("%+v", result)
	}
	if d := result.Diagnostics; len(d) != 1 || d[0].Remedy != "mend it" || d[0].Detector != "bad" {
		t.Errorf("%+v", d)
	}
}

func TestRulesChosen(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	r.scan(d)
	w.write("a.go", "package a\n")
	result, err := r.scanner.Scan(t.Context(), gap.Target{Workspace: "w", Walker: w, Detectors: []gap.Detector{d}, Rules: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	r.want(result, 0, 0, 0, 2)
	r.want(r.scan(d), 0, 0, 2, 0)
}

func TestSuppressionIsBoundToContentAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]string{"a.go": "x\n// TODO: one\ny\n"})
		r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
		r.scan(d)
		id := r.the().ID
		suppress := func(until *time.Time) {
			t.Helper()
			if _, err := r.service.Suppress(t.Context(), id, "me", "by design", until); err != nil {
				t.Fatal(err)
			}
		}
		suppress(nil)
		w.write("a.go", "head\nx\n    // TODO:   one\ny\n")
		r.want(r.scan(d), 0, 0, 0, 1)
		r.the(gap.StateSuppressed)

		w.write("a.go", "gone\n") // resolved, and back with the same content
		r.want(r.scan(d), 0, 0, 1, 0)
		w.write("a.go", "x\n// TODO: one\ny\n")
		r.scan(d)
		if g := r.the(gap.StateSuppressed); g.ID != id || g.Suppression.Reason != "by design" {
			t.Errorf("%+v", g)
		}

		w.write("a.go", "x\n// TODO: one and a half\ny\n")
		r.want(r.scan(d), 0, 1, 0, 0)
		if g := r.the(gap.StateOpen); g.ID != id || g.Suppression != nil || !strings.Contains(g.History[len(g.History)-1].Why, "content") {
			t.Errorf("%+v", g)
		}

		until := time.Now().Add(time.Hour)
		suppress(&until)
		time.Sleep(59 * time.Minute)
		r.want(r.scan(d), 0, 0, 0, 1)
		time.Sleep(time.Minute)
		r.want(r.scan(d), 0, 1, 0, 0) // although nothing changed
		if g := r.the(gap.StateOpen); !strings.Contains(g.History[len(g.History)-1].Why, "ended") {
			t.Errorf("%+v", g.History)
		}
	})
}

func TestServiceRefuses(t *testing.T) {
	w := newWorld(map[string]string{"a.go": "// TODO\n"})
	r := newRig(t, w, gap.ScanOptions{})
	r.scan(todos(w))
	id := r.the().ID
	past := time.Now().Add(-time.Second)
	ctx := t.Context()
	for name, tt := range map[string]struct {
		do     func() (*gap.Gap, error)
		reason string
	}{
		"no reason":       {func() (*gap.Gap, error) { return r.service.Suppress(ctx, id, "me", " \n", nil) }, "GAP_REASON_MISSING"},
		"until past":      {func() (*gap.Gap, error) { return r.service.Suppress(ctx, id, "me", "r", &past) }, "GAP_UNTIL_PAST"},
		"open again":      {func() (*gap.Gap, error) { return r.service.Reopen(ctx, id, "me", "r") }, "GAP_TRANSITION"},
		"resolve by hand": {func() (*gap.Gap, error) { return r.service.Move(ctx, id, gap.StateResolved, "me", "r") }, "GAP_TRANSITION"},
		"skip ahead":      {func() (*gap.Gap, error) { return r.service.Move(ctx, id, gap.StateVerifying, "me", "r") }, "GAP_TRANSITION"},
		"unknown":         {func() (*gap.Gap, error) { return r.service.Acknowledge(ctx, "nothing", "me", "r") }, "GAP_NOT_FOUND"},
	} {
		g, err := tt.do()
		var e *sdk.Error
		if !errors.As(err, &e) || e.Reason != tt.reason || e.Remedy == "" {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	if g, err := r.service.CheckAcknowledge(ctx, id, "me", "seen"); err != nil || g.State != gap.StateAcknowledged || r.the().State != gap.StateOpen {
		t.Errorf("checked: %+v, %v", g, err)
	}
	if g, err := r.service.Acknowledge(ctx, id, "me", "seen"); err != nil || g.State != gap.StateAcknowledged || g.History[1].By != "me" {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	r.scan(d)
	if len(r.events.list) != 3 {
		t.Fatalf("events: %+v", r.events.list)
	}
	started, ok1 := r.events.list[0].(gap.ScanStarted)
	changed, ok2 := r.events.list[1].(gap.Changed)
	finished, ok3 := r.events.list[2].(gap.ScanFinished)
	if !ok1 || !ok2 || !ok3 || started.Scan != finished.Result.ID || len(changed.Opened) != 2 || finished.Err != nil {
		t.Errorf("events: %+v", r.events.list)
	}
	r.scan(d)
	if len(r.events.list) != 5 {
		t.Errorf("an unchanged scan published %+v", r.events.list[3:])
	}
}

func TestCancelledScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]string{"a.go": body})
		r, d := newRig(t, w, gap.ScanOptions{Timeout: time.Minute}), todos(w)
		hang := &fake{name: "hang", rules: d.rules, answer: func(_ *fake, p *pipe) error { <-p.ctx.Done(); return p.ctx.Err() }}
		result := r.scan(hang, d)
		if result.Complete || result.Duration != time.Minute || result.New != 2 {
			t.Errorf("%+v", result)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.scanner.Scan(ctx, gap.Target{Workspace: "w", Walker: w, Detectors: []gap.Detector{hang}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Scan returned %v", err)
		}
		r.want(r.scan(d), 0, 0, 0, 2)
	})
}

func TestGapJSON(t *testing.T) {
	w := newWorld(map[string]string{"a.go": "// TODO\n"})
	r := newRig(t, w, gap.ScanOptions{})
	r.scan(todos(w))
	text, err := json.Marshal(r.gaps()[0])
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"rule": "todo", "type": "code_quality", "severity": "low", "confidence": "medium", "path": "a.go", "line": 1.0, "end_line": 1.0,
		"symbol": "", "message": "TODO comment", "remedy": "do it", "detector": "code", "state": "open",
	} {
		if fields[field] != want {
			t.Errorf("%s is %v, want %v, in %s", field, fields[field], want, text)
		}
	}
	if f, ok := fields["fingerprint"].(string); !ok || !strings.HasPrefix(f, "g1:") || fields["id"] == "" || fields["first_seen"] == nil {
		t.Errorf("%s", text)
	}
	var back gap.Gap
	if err := json.Unmarshal(text, &back); err != nil || back.Severity != gap.SeverityLow || back.Path != "a.go" {
		t.Errorf("read back: %+v, %v", back, err)
	}
}

// A detector that looks at more than the files is asked although none has
// changed.
func TestVolatileDetector(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	d.volatile = true
	r.want(r.scan(d), 2, 0, 0, 0)
	r.want(r.scan(d), 0, 0, 0, 2)
	if len(d.starts) != 2 || d.starts[1].GetBaseRevision() == "" || len(d.sent) != 0 {
		t.Errorf("asked %d times, %v sent", len(d.starts), d.sent)
	}
}
