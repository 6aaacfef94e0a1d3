package startup

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/maintenance"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

const nightOwner = "maintenance {\n  operator = \"night\"\n  owner \"component.*\" {\n    operator = \"stack\"\n  }\n}\n"

// maintenanceTask waits until the one task of maintenance is in a state.
func (s *site) maintenanceTask(state string) *apiv1.TaskRecord {
	s.t.Helper()
	all := s.awaitTasks(apiv1connect.NewTaskClient(s.http(), "http://sop"), []string{state}, func(all []*apiv1.TaskRecord) bool { return len(all) == 1 })
	return all[0]
}

// A request becomes one task of its owner's, which ends with it.
func TestMaintenanceBecomesTask(t *testing.T) {
	s := newSite(t)
	s.configure(nightOwner + "rule \"rest\" {\n  match {\n    type = \"test_coverage\"\n  }\n}\n")
	s.lock()
	s.start()
	c := apiv1connect.NewMaintenanceClient(s.http(), "http://sop")
	var id string
	for range 2 {
		answer, err := c.FileMaintenance(t.Context(), connect.NewRequest(&apiv1.FileMaintenanceRequest{
			Subsystem: "disk", Description: "it is\nfull", Remedy: "make room", Severity: "high",
		}))
		if err != nil {
			t.Fatal(err)
		}
		id = answer.Msg.GetRequest().GetId()
	}
	made := s.maintenanceTask("ready")
	if made.GetKind() != "maintenance" || made.GetTitle() != "disk: it is full" || made.GetRoute() != "operator/night" || made.GetSandbox() != "" || made.GetSeverity() != "high" {
		t.Errorf("%v", made)
	}
	if _, err := c.CloseMaintenance(t.Context(), connect.NewRequest(&apiv1.CloseMaintenanceRequest{Id: id, Reason: "room was made"})); err != nil {
		t.Fatal(err)
	}
	if done := s.maintenanceTask("done"); done.GetId() != made.GetId() || !strings.Contains(done.GetReason(), "room was made") {
		t.Errorf("%v", done)
	}
}

// awaitRequests waits until the open requests are about these subsystems.
func (s *site) awaitRequests(want ...string) []*apiv1.MaintenanceRecord {
	s.t.Helper()
	events := apiv1connect.NewEventClient(s.http(), "http://sop")
	stream, err := events.Watch(s.t.Context(), connect.NewRequest(&apiv1.WatchRequest{}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer stream.Close()
	c := apiv1connect.NewMaintenanceClient(s.http(), "http://sop")
	for {
		answer, err := c.ListMaintenance(s.t.Context(), connect.NewRequest(&apiv1.ListMaintenanceRequest{}))
		if err != nil {
			s.t.Fatal(err)
		}
		open := answer.Msg.GetRequests()
		var about []string
		for _, r := range open {
			about = append(about, r.GetSubsystem())
		}
		slices.Sort(about)
		if slices.Equal(about, want) {
			return open
		}
		if !stream.Receive() {
			s.t.Fatalf("open are %v, want %v: %v", about, want, stream.Err())
		}
	}
}

// stubborn is a store of maintenance requests that cannot be written at first.
type stubborn struct {
	maintenance.Store
	refuse  int
	written chan struct{}
}

func (s *stubborn) OpenSubsystems(context.Context) ([]string, error) { return nil, nil }

func (s *stubborn) Update(context.Context, func(maintenance.Tx) error) error {
	if s.refuse--; s.refuse >= 0 {
		return sdk.Errorf(codes.Unavailable, "STORE_FULL", "there is no room")
	}
	s.written <- struct{}{}
	return nil
}

// What a store would not take is stored when it does, unless it is not so any more.
func TestMaintenanceIsStoredLater(t *testing.T) {
	store := &stubborn{refuse: 3, written: make(chan struct{}, 10)}
	service, err := maintenance.NewService(t.Context(), maintenance.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	m := newMaintained(&host{maintenance: service, logger: hclog.NewNullLogger()}, 10*time.Millisecond)
	defer m.close()
	if err := m.File(t.Context(), "component.db", "it has failed", "", "high"); err == nil {
		t.Fatal("it was stored")
	}
	select {
	case <-store.written:
	case <-time.After(20 * time.Second):
		t.Fatal("it was not stored later")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.left) != 0 {
		t.Error("it is stored again")
	}
}

func shellComponent(name, script, more string) string {
	return fmt.Sprintf("component %q {\n  command = \"/bin/sh\"\n  args = [\"-c\", %q]\n%s\n}\n", name, script, more)
}

const breaksSoon = "  restart {\n    backoff_min = \"10ms\"\n    backoff_max = \"10ms\"\n    breaker_failures = 2\n  }\n"

// The host asks for the maintenance of components that crash in a loop, or do not
// pass their probe any more, and of nothing that is started again by itself; they
// are closed when they are ready, or not configured any more.
func TestComponentsAskForMaintenance(t *testing.T) {
	s := newSite(t)
	well := filepath.Join(s.dir, "well")
	s.write("well", "")
	probed := shellComponent("probed", "exec sleep 300", fmt.Sprintf("  readiness {\n    exec = [\"test\", \"-e\", %q]\n    interval = \"10ms\"\n    recheck = \"100ms\"\n  }\n", well))
	// Its first process fails; there is no second failure.
	once := shellComponent("once", fmt.Sprintf("if mkdir %s; then exit 1; fi; exec sleep 300", filepath.Join(s.dir, "first")), breaksSoon)
	broken := shellComponent("broken", "exit 3", "  required = true\n"+breaksSoon)
	s.configure(nightOwner + broken + once + probed)
	s.lock()
	s.start()
	for _, r := range s.awaitRequests("component.broken") {
		if r.GetSeverity() != "critical" || r.GetOwner() != "operator/stack" || !strings.Contains(r.GetDescription(), "exited with code 3") || r.GetRemedy() == "" || r.GetFiledBy() != "host" {
			t.Errorf("%v", r)
		}
	}
	if made := s.maintenanceTask("ready"); made.GetRoute() != "operator/stack" {
		t.Errorf("%v", made)
	}
	if err := os.Remove(well); err != nil {
		t.Fatal(err)
	}
	s.awaitRequests("component.broken", "component.probed")
	s.write("well", "")
	s.awaitRequests("component.broken")
	s.configure(nightOwner + shellComponent("broken", "exec sleep 300", "") + once + probed)
	s.reload()
	s.awaitRequests()
	s.configure(nightOwner + broken + once + probed)
	s.reload()
	s.awaitRequests("component.broken")
	s.configure(nightOwner + once + probed)
	s.reload()
	s.awaitRequests()
}

// Memory runs short by a threshold that every machine is over, and does not by one
// that none is.
func TestPressure(t *testing.T) {
	s := newSite(t)
	pressed := func(memory string) string {
		return "maintenance {\n  pressure {\n    memory = " + memory + "\n    margin = 0\n    disk = 0\n    interval = \"100ms\"\n  }\n}\n"
	}
	s.configure(pressed("0.01"))
	s.lock()
	s.start()
	if r := s.awaitRequests("memory")[0]; !strings.Contains(r.GetDescription(), "MiB are left") || r.GetSeverity() != "high" {
		t.Errorf("%v", r)
	}
	s.configure(pressed("100"))
	s.reload()
	s.awaitRequests()
}

// reload has the configuration taken over.
func (s *site) reload() {
	s.t.Helper()
	answer, err := apiv1connect.NewHostClient(s.http(), "http://sop").Reload(s.t.Context(), connect.NewRequest(&apiv1.ReloadRequest{}))
	if err != nil || !answer.Msg.GetVerdict().GetOk() {
		s.t.Fatalf("reload: %v, %v", err, answer)
	}
}

// A log that was changed behind the host's back is asked for to be looked at, when
// somebody verifies it.
func TestAuditAsksForMaintenance(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	s.end()
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "data", "state", "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"DROP TRIGGER audit_records_stay", "UPDATE audit_records SET record = replace(record, 'started', 'stopped') WHERE seq = 1"} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	answer, err := apiv1connect.NewAuditClient(s.http(), "http://sop").Verify(t.Context(), connect.NewRequest(&apiv1.VerifyRequest{}))
	if err != nil || answer.Msg.GetFault() == nil {
		t.Fatalf("%v, %v", answer, err)
	}
	if r := s.awaitRequests("audit")[0]; r.GetSeverity() != "critical" || !strings.Contains(r.GetDescription(), "record 1 is edited") {
		t.Errorf("%v", r)
	}
}
