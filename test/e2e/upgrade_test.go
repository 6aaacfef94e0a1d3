package e2e_test

import (
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// A new build under the same name: replaced by renaming, locked, and the old
// generation gives way to the new one.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.write("curt.txt", "what\n")
	s.configure("plugin \"detector\" \"hello\" {\n  command = \"" + s.install("detector-hello", hello(t, "1.0.0")) + "\"\n}\n")
	s.lock()
	h := s.up()
	before := h.status()
	if p := plugin(before, "detector.hello"); p.GetVersion() != "1.0.0" || p.GetGeneration() != 1 {
		t.Fatalf("first build: %v", p)
	}
	old := watchProcess(t, int(plugin(before, "detector.hello").GetPid()))

	s.install("detector-hello", hello(t, "2.0.0"))
	// Until it is locked, the new build is not started and the old one serves on.
	s.must(1, "plugin", "restart", "detector.hello")
	if p := h.plugin("detector.hello"); p.GetState() != "ready" || int(p.GetPid()) != old.pid {
		t.Errorf("an unlocked build disturbed the old one: %v", p)
	}
	s.must(3, "plugin", "lock", "--check")
	s.lock()
	after := h.waitFor("the new generation is in service", func(st *apiv1.Status) bool {
		p := plugin(st, "detector.hello")
		return p.GetVersion() == "2.0.0" && p.GetState() == "ready"
	})
	p := plugin(after, "detector.hello")
	if int(p.GetPid()) == old.pid || p.GetGeneration() <= 1 || p.GetRestarts() != 0 {
		t.Errorf("second build: %v", p)
	}
	if !old.gone(10 * time.Second) {
		t.Error("the old generation still runs")
	}
	h.waitFor("a scan by the new generation", func(st *apiv1.Status) bool {
		return lastScan(st).GetId() != lastScan(before).GetId() && lastScan(st).GetComplete()
	})
	if g := find(t, s.gaps(), "hello.greeting", "curt.txt"); g.GetDetectorVersion() != "2.0.0" {
		t.Errorf("the gap was not seen again by the new build: %v", g)
	}
	if was, is := plugin(before, "detector.docs"), plugin(h.status(), "detector.docs"); is.GetPid() != was.GetPid() || is.GetGeneration() != was.GetGeneration() {
		t.Errorf("the neighbour was disturbed: %v, then %v", was, is)
	}
}
