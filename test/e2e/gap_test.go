package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// find returns the one gap of a rule that mentions a text.
func find(t *testing.T, gaps []*apiv1.GapRecord, rule, text string) *apiv1.GapRecord {
	t.Helper()
	var found *apiv1.GapRecord
	for _, g := range gaps {
		if g.GetRule() == rule && strings.Contains(g.GetSymbol()+" "+g.GetMessage()+" "+g.GetPath(), text) {
			if found != nil {
				t.Fatalf("more than one gap of %s mentions %s: %v", rule, text, places(gaps))
			}
			found = g
		}
	}
	if found == nil {
		t.Fatalf("no gap of %s mentions %s: %v", rule, text, places(gaps))
	}
	return found
}

// reported is what a scan has to say in numbers.
func reported(t *testing.T, scan *apiv1.ScanReport, opened, reopened, resolved int64) {
	t.Helper()
	if !scan.GetComplete() || scan.GetOpened() != opened || scan.GetReopened() != reopened || scan.GetResolved() != resolved {
		t.Errorf("scan: complete %v, %d new, %d back, %d resolved; want %d, %d, %d; %v", scan.GetComplete(),
			scan.GetOpened(), scan.GetReopened(), scan.GetResolved(), opened, reopened, resolved, scan.GetDiagnostics())
	}
}

// One gap through its life, under one id.
func TestGapLife(t *testing.T) {
	t.Parallel()
	const source = "// Package calc calculates.\npackage calc\n\nfunc Add(a, b int) int { return a + b }\n"
	s := newSite(t)
	s.write("README.md", readme)
	s.write("calc.go", source)
	s.configure()
	s.lock()
	h := s.up()
	id := find(t, s.gaps(), "docs.go.exported", "Add").GetId()

	s.write("calc.go", strings.Replace(source, "func Add", "// Add adds.\nfunc Add", 1))
	reported(t, h.scan(), 0, 0, 1)
	if g := s.gap(id); g.GetState() != "resolved" || g.GetResolution() != "fixed" || g.GetResolvedAt() == nil {
		t.Errorf("after the fix: %v", g)
	}
	if gaps := s.gaps(); len(gaps) != 0 {
		t.Errorf("listed after the fix: %v", places(gaps))
	}

	s.write("calc.go", source)
	reported(t, h.scan(), 0, 1, 0)
	g := s.gap(id)
	if g.GetState() != "open" || len(g.GetHistory()) != 3 {
		t.Fatalf("reintroduced: %v", g)
	}
	for i, want := range [][2]string{{"", "open"}, {"open", "resolved"}, {"resolved", "open"}} {
		if c := g.GetHistory()[i]; c.GetFrom() != want[0] || c.GetTo() != want[1] || c.GetBy() == "" || c.GetAt() == nil {
			t.Errorf("history: %v, want %v", c, want)
		}
	}

	s.must(2, "gap", "suppress", id)
	s.must(0, "gap", "suppress", id, "--reason", "by design")
	if gaps := s.gaps(); len(gaps) != 0 {
		t.Errorf("listed although suppressed: %v", places(gaps))
	}
	if gaps := s.gaps("--state", "suppressed"); len(gaps) != 1 || gaps[0].GetSuppressReason() != "by design" {
		t.Errorf("suppressed: %v", gaps)
	}
	reported(t, h.scan(), 0, 0, 0) // stays suppressed
	if g := s.gap(id); g.GetState() != "suppressed" {
		t.Errorf("after another scan: %v", g.GetState())
	}
	s.must(0, "gap", "reopen", id, "--reason", "not any more")

	s.must(0, "gap", "acknowledge", id, "--check")
	s.must(0, "gap", "acknowledge", id, "--note", "next week")
	s.must(1, "gap", "acknowledge", id) // already
	reported(t, h.scan(), 0, 0, 0)      // stays acknowledged, and listed
	g = find(t, s.gaps(), "docs.go.exported", "Add")
	if g.GetId() != id || g.GetState() != "acknowledged" {
		t.Errorf("acknowledged: %v", g)
	}
	g = s.gap(id)
	if c := g.GetHistory()[len(g.GetHistory())-1]; c.GetTo() != "acknowledged" || c.GetReason() != "next week" {
		t.Errorf("acknowledged: %v", c)
	}
	if r := s.must(0, "audit", "search", "--action", "gap.acknowledge"); strings.Count(r.stdout, "next week") != 1 {
		t.Errorf("recorded: %v", r)
	}

	for _, edit := range []struct{ name, content string }{
		{"lines above", "// A new line.\n\n// And another.\n\n" + source},
		{"a declaration above", strings.Replace(source, "func Add", "// Neg negates.\nfunc Neg(a int) int { return -a }\n\nfunc Add", 1)},
	} {
		s.write("calc.go", edit.content)
		reported(t, h.scan(), 0, 0, 0)
		line := lineOf(t, edit.content, "func Add")
		if g := find(t, s.gaps(), "docs.go.exported", "Add"); g.GetId() != id || g.GetLine() != line {
			t.Errorf("%s: %s at line %d, want %s at line %d", edit.name, g.GetId(), g.GetLine(), id, line)
		}
	}

	if err := os.Rename(filepath.Join(s.work, "calc.go"), filepath.Join(s.work, "sums.go")); err != nil {
		t.Fatal(err)
	}
	reported(t, h.scan(), 0, 0, 0)
	if g := find(t, s.gaps(), "docs.go.exported", "Add"); g.GetId() != id || g.GetPath() != "sums.go" {
		t.Errorf("renamed: %s at %s", g.GetId(), g.GetPath())
	}

	s.remove("sums.go")
	reported(t, h.scan(), 0, 0, 1)
	if g := s.gap(id); g.GetState() != "resolved" || g.GetResolution() == "fixed" {
		t.Errorf("removed with its file: %s, %s", g.GetState(), g.GetResolution())
	}
}

// The host scans by itself at intervals.
func TestInterval(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme+"\n[x](nowhere.md)\n")
	s.put(s.conf, strings.Replace(s.config(), `interval = "0s"`, `interval = "1s"`, 1))
	s.lock()
	h := s.up()
	if gaps := s.gaps(); len(gaps) != 1 {
		t.Fatalf("gaps: %v", places(gaps))
	}
	s.write("README.md", readme)
	h.await("a scan that resolves the gap", func(l line) bool { return l.Type == "scan" && l.Workspace.LastScan.Resolved == 1 })
	if gaps := s.gaps(); len(gaps) != 0 {
		t.Errorf("gaps: %v", places(gaps))
	}
}
