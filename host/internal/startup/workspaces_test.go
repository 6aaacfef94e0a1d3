package startup

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// governing governs one tree, "w", without detectors; each scan tells begun and waits
// until go is told.
type governing struct {
	*workspaces
	begun, goOn chan struct{}
}

func govern(t *testing.T) *governing {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g := &governing{begun: make(chan struct{}), goOn: make(chan struct{})}
	g.workspaces = &workspaces{
		ctx: ctx, cancel: cancel, store: db.Gaps(), changed: func() {}, logger: hclog.NewNullLogger(), all: make(map[string]*governed),
		configured: func() []string { return nil },
		detectors: func() []gap.Detector {
			g.begun <- struct{}{}
			<-g.goOn
			return nil
		},
	}
	t.Cleanup(func() {
		g.close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := g.apply([]config.Workspace{{Name: "w", Path: t.TempDir(), Scan: config.Scan{Timeout: time.Minute}}}); err != nil {
		t.Fatal(err)
	}
	return g
}

// A scan that began before the call has perhaps passed by what it is called for.
func TestScanFollowsTheOneBefore(t *testing.T) {
	g := govern(t)
	before := g.begin(g.ctx, g.all["w"], "")
	<-g.begun
	answer := make(chan *apiv1.ScanReport, 1)
	go func() {
		report, err := g.Scan(g.ctx, "w")
		if err != nil {
			t.Error(err)
		}
		answer <- report
	}()
	g.goOn <- struct{}{}
	<-before.done
	select {
	case <-g.begun:
		g.goOn <- struct{}{}
	case report := <-answer:
		t.Fatalf("the call joined scan %s, which began before it", report.GetId())
	}
	if d := before.report.GetDiagnostics(); len(d) != 1 || d[0].GetReason() != "no_detectors" || d[0].GetRemedy() == "" {
		t.Errorf("a scan in which nobody looked says %v", d)
	}
	if report := <-answer; report.GetId() == before.report.GetId() {
		t.Error("the call was answered with the scan before")
	}
}

// Whoever asks for a scan is told that the directory is gone, and not where it was.
func TestScanOfWhatIsGone(t *testing.T) {
	g := govern(t)
	path := g.all["w"].config.Path
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-g.begun
		g.goOn <- struct{}{}
	}()
	_, err := g.Scan(g.ctx, "w")
	if e := sdk.FromError(err); e == nil || e.Reason != "WORKSPACE_GONE" || e.Remedy == "" || strings.Contains(e.Message, path) {
		t.Errorf("got %+v", e)
	}
}
