package gap_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// What is reported outside of a scan is one gap, however often, and a scan that
// covers its place decides what becomes of it.
func TestReport(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	r.want(r.scan(d), 2, 0, 0, 0)
	report := func(path, snippet string) (*gap.Gap, error) {
		return r.service.Report(t.Context(), gap.Report{
			Workspace: r.name, Detector: d.name, Version: d.version, Rules: d.rules, By: "plugin:detector." + d.name,
			Exists:  func(path string) bool { return w.files[path] != "" },
			Finding: &pluginv1.Finding{Rule: d.rules[0].GetId(), Location: &pluginv1.Location{Path: path, Line: 3}, Message: "reported", Snippet: snippet},
		})
	}
	first, err := report("a.go", "// something that no scan has seen")
	if err != nil || first.State != gap.StateOpen || len(first.History) != 1 || first.History[0].By != "plugin:detector."+d.name {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := report("a.go", "// something that no scan has seen"); err != nil || again.ID != first.ID {
		t.Errorf("reported again: %+v, %v", again, err)
	}
	if n := len(r.gaps()); n != 3 {
		t.Errorf("%d gaps", n)
	}
	for _, path := range []string{"b.go", "../a.go", ""} {
		if _, err := report(path, "x"); sdk.FromError(err).Code != codes.InvalidArgument {
			t.Errorf("%q: %v", path, err)
		}
	}
	w.write("a.go", body+"\n")
	r.want(r.scan(d), 0, 0, 1, 2)
	if g := r.the(gap.StateResolved); g.ID != first.ID {
		t.Errorf("resolved: %+v", g)
	}
	if back, err := report("a.go", "// something that no scan has seen"); err != nil || back.ID != first.ID || back.State != gap.StateOpen {
		t.Errorf("after it was resolved: %+v, %v", back, err)
	}
}

// A detector is given a token for each scan that asks it something, and the
// token ends with the scan; without one it is not asked.
func TestScanGrant(t *testing.T) {
	w := newWorld(map[string]string{"a.go": body})
	r, d := newRig(t, w, gap.ScanOptions{}), todos(w)
	given, ended := 0, 0
	var failed error
	target := gap.Target{
		Workspace: r.name, Walker: w, Detectors: []gap.Detector{d},
		Grant: func(_ context.Context, detector, scan string) (string, func(), error) {
			if detector != d.name || scan == "" {
				t.Errorf("a token for %q in scan %q", detector, scan)
			}
			given++
			return "the secret", func() { ended++ }, failed
		},
	}
	for range 2 { // the second has nothing to ask
		if _, err := r.scanner.Scan(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	if given != 1 || ended != 1 || d.starts[0].GetToken() != "the secret" {
		t.Errorf("%d given, %d ended, %+v", given, ended, d.starts[0])
	}
	w.write("a.go", body+"\n")
	failed = errors.New("the database is gone")
	result, err := r.scanner.Scan(t.Context(), target)
	if err != nil || result.Complete || len(d.starts) != 1 || len(result.Diagnostics) != 1 {
		t.Errorf("without a token: %+v, %v", result, err)
	}
}
