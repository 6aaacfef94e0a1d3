package startup

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
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
