package startup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

const (
	policyBlock = "policy {\n  dir = \"policies\"\n}\n"
	everything  = "@id(\"everything\")\npermit (principal, action, resource);\n"
	noReopening = everything + "@id(\"no-reopening\")\nforbid (principal, action == Action::\"gap.reopen\", resource);\n"
)

// mayReopen asks the host itself.
func (s *site) mayReopen() bool {
	s.t.Helper()
	answer, err := apiv1connect.NewPolicyClient(s.http(), "http://sop").Explain(s.t.Context(), connect.NewRequest(&apiv1.ExplainRequest{
		Principal: &apiv1.PolicyPrincipal{Name: "uid:0", Trust: "system"}, Action: "gap.reopen",
	}))
	if err != nil {
		s.t.Fatal(err)
	}
	// What explain says is what the door does.
	_, err = apiv1connect.NewGapClient(s.http(), "http://sop").ReopenGap(s.t.Context(), connect.NewRequest(&apiv1.ReopenGapRequest{Id: "none", Reason: "test"}))
	if denied := connect.CodeOf(err) == connect.CodePermissionDenied; denied == answer.Msg.GetAllow() {
		s.t.Fatalf("explain: %v, reopening: %v", answer.Msg, err)
	}
	return answer.Msg.GetAllow()
}

// changeOf returns the reasons of what a verdict does to the policies.
func changeOf(st *apiv1.Status) string {
	for _, c := range st.GetLastReload().GetChanges() {
		if c.GetSubject() == "policy" {
			return c.GetAction() + " " + strings.Join(c.GetReasons(), ", ")
		}
	}
	return "absent"
}

func TestPoliciesAreTakenOverWhole(t *testing.T) {
	s := newSite(t)
	s.write("policies/own.cedar", everything)
	s.configure(policyBlock)
	s.lock()
	s.start()
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	if !s.mayReopen() {
		t.Fatal("not what the file says")
	}

	// Good: a policy is added, and a file.
	s.write("policies/own.cedar", noReopening)
	s.await("taken over", func(st *apiv1.Status) bool { return strings.Contains(changeOf(st), "update no-reopening added") })
	if s.mayReopen() {
		t.Error("the new policy is not in force")
	}
	s.write("policies/more.cedar", "@id(\"more\")\npermit (principal, action, resource);\n")
	s.await("file added", func(st *apiv1.Status) bool { return strings.Contains(changeOf(st), "more added") })

	// Bad: refused as a whole, with the place; what was in force stays.
	bad := strings.Replace(noReopening, "gap.reopen", "gap.roepen", 1)
	s.write("policies/more.cedar", "@id(\"other\")\npermit (principal, action, resource);\n")
	s.write("policies/own.cedar", bad)
	st := s.await("refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	d := st.GetLastReload().GetDiagnostics()[0]
	if d.GetLine() != 4 || d.GetColumn() != 38 || !strings.HasSuffix(d.GetFile(), "policies/own.cedar") ||
		!strings.Contains(d.GetText(), "^^^^^^^^^^^^") || !strings.Contains(d.GetDetail(), `Did you mean "gap.reopen"`) {
		t.Errorf("diagnostic: %v", d)
	}
	if st.GetState() != "degraded" || s.mayReopen() {
		t.Errorf("the old policies are not in force any more: %v", st.GetReasons())
	}
	for _, name := range []string{"more.cedar", "own.cedar"} { // a reload between the two finds the bad one alone
		if err := os.Remove(filepath.Join(s.dir, "policies", name)); err != nil {
			t.Fatal(err)
		}
	}
	s.await("an empty directory is refused", func(st *apiv1.Status) bool {
		return !st.GetLastReload().GetOk() && strings.Contains(st.GetLastReload().GetDiagnostics()[0].GetDetail(), "nobody may do anything")
	})
	if s.mayReopen() {
		t.Error("an empty directory took the policies away")
	}

	// Good again.
	s.write("policies/own.cedar", everything)
	s.await("mended", func(st *apiv1.Status) bool { return st.GetState() == "ok" && st.GetLastReload().GetOk() })
	if !s.mayReopen() {
		t.Error("the mended policies are not in force")
	}

	// Another directory is watched from then on, the first not any more.
	s.write("elsewhere/own.cedar", noReopening)
	s.configure(strings.Replace(policyBlock, "policies", "elsewhere", 1))
	s.await("moved", func(st *apiv1.Status) bool { return strings.Contains(changeOf(st), "dir changed") })
	if s.mayReopen() {
		t.Error("the other directory is not in force")
	}
	s.write("elsewhere/own.cedar", everything)
	s.await("elsewhere", func(st *apiv1.Status) bool { return strings.Contains(changeOf(st), "no-reopening removed") })

	// A directory that is gone takes no rule away: nor do the default policies come
	// into force, which may permit what it forbids.
	s.write("elsewhere/own.cedar", noReopening)
	s.await("forbidden again", func(st *apiv1.Status) bool { return strings.Contains(changeOf(st), "no-reopening added") })
	elsewhere, gone := filepath.Join(s.dir, "elsewhere"), filepath.Join(s.dir, "gone")
	if err := os.Rename(elsewhere, gone); err != nil {
		t.Fatal(err)
	}
	st = s.await("gone", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	if d := st.GetLastReload().GetDiagnostics()[0]; !strings.HasSuffix(d.GetFile(), "config.hcl") || d.GetLine() == 0 || !strings.Contains(d.GetDetail(), "sop policy init "+elsewhere) {
		t.Errorf("missing directory: %v", d)
	}
	if s.mayReopen() {
		t.Error("the policies went with their directory")
	}
	if err := os.Rename(gone, elsewhere); err != nil {
		t.Fatal(err)
	}
	s.await("back", func(st *apiv1.Status) bool { return st.GetLastReload().GetOk() && st.GetState() == "ok" })

	// Without a directory: the default ones. One that appears is in force then.
	s.configure("")
	s.await("default", func(st *apiv1.Status) bool { return strings.Contains(changeOf(st), "dir changed") })
	s.configure(strings.Replace(policyBlock, "policies", "nowhere", 1))
	s.await("missing", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	if !s.mayReopen() {
		t.Error("a directory that does not exist took the default policies away")
	}
	s.write("nowhere/own.cedar", noReopening)
	s.await("in force", func(st *apiv1.Status) bool {
		return strings.Contains(changeOf(st), "dir changed") && len(st.GetLastReload().GetDiagnostics()) == 0
	})
	if s.mayReopen() {
		t.Error("the directory that appeared is not in force")
	}

	// The log has it all, with the reasons.
	records, err := apiv1connect.NewAuditClient(s.http(), "http://sop").ListRecords(t.Context(), connect.NewRequest(&apiv1.ListRecordsRequest{Selection: &apiv1.AuditFilter{Action: "config.reload"}, PageSize: 100}))
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, r := range records.Msg.GetRecords() {
		all += r.GetOutcome() + " " + r.GetReason() + " " + r.GetAttributes()["policy"] + "\n"
	}
	for _, want := range []string{"update [no-reopening added]", "failure ", "Unknown action", "update [dir changed]"} {
		if !strings.Contains(all, want) {
			t.Errorf("no record with %q:\n%s", want, all)
		}
	}
}

// A host does not start with policies that are no good, or not there.
func TestInvalidPoliciesKeepTheHostFromStarting(t *testing.T) {
	s := newSite(t)
	s.configure(policyBlock)
	if err := Run(t.Context(), Options{ConfigPath: s.config}); err == nil || !strings.Contains(err.Error(), "The directory of policies does not exist") {
		t.Errorf("got %v", err)
	}
	s.write("policies/own.cedar", "permit (principal, action, resource) when { principal.truts == \"system\" };")
	s.configure(policyBlock)
	err := Run(t.Context(), Options{ConfigPath: s.config})
	if err == nil || !strings.Contains(err.Error(), "own.cedar:1:55") {
		t.Errorf("got %v", err)
	}
}
