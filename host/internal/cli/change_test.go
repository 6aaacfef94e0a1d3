package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// changers are the commands of the methods that change something.
var changers = map[string]string{
	"Agent.EnrollAgent": "agent enroll", "Agent.RotateAgent": "agent rotate", "Agent.RevokeAgent": "agent revoke",
	"Audit.Checkpoint": "audit checkpoint", "Audit.ArchiveRecords": "audit archive",
	"Component.StartComponent": "component start", "Component.StopComponent": "component stop", "Component.RestartComponent": "component restart",
	"Emergency.EmergencyStop": "emergency-stop", "Emergency.Resume": "resume",
	"Gap.SuppressGap": "gap suppress", "Gap.AcknowledgeGap": "gap acknowledge", "Gap.ReopenGap": "gap reopen",
	"Host.Reload": "reload", "Plugin.RestartPlugin": "plugin restart", "Workspace.ScanWorkspace": "workspace scan",
	"Patch.ApprovePatch": "patch approve", "Patch.DenyPatch": "patch deny", "Patch.RollbackPatch": "patch rollback",
	"Run.StartRun": "fix", "Run.TryRun": "fix",
	"Backup.CreateBackup": "backup create", "Backup.RestoreBackup": "backup restore", "Backup.PinBackup": "backup pin",
	"Backup.DeleteBackups": "backup delete", "Backup.PruneBackups": "backup prune",
	"Maintenance.FileMaintenance": "maintenance file", "Maintenance.CloseMaintenance": "maintenance close",
	"Protocol.CallProtocol": "protocol call", "Protocol.StreamProtocol": "protocol call",
	"Protocol.ActivateProtocol": "protocol activate", "Protocol.DeactivateProtocol": "protocol deactivate",
	"Task.CreateTask": "task create", "Task.ClaimTask": "task claim", "Task.HeartbeatTask": "task heartbeat", "Task.SubmitTask": "task submit",
	"Task.GiveUpTask": "task give-up", "Task.CancelTask": "task cancel", "Task.RetryTask": "task retry", "Task.PinTask": "task pin",
	"Token.IssueToken": "token issue", "Token.IssueChildToken": "token child", "Token.ConsumeToken": "token consume",
	"Token.RenewToken": "token renew", "Token.RevokeToken": "token revoke",
}

// listers are the commands of the methods that list.
var listers = map[string]string{
	"Agent.ListAgents": "agent list", "Audit.ListRecords": "audit search", "Audit.ListSinks": "audit sinks", "Audit.ListArchives": "audit archives",
	"Component.ListComponents": "component list", "Backup.ListBackups": "backup list", "Maintenance.ListMaintenance": "maintenance list",
	"Protocol.ListProtocols": "protocol list", "Task.ListTasks": "task list",
	"Gap.ListGaps": "gap list", "Plugin.ListPlugins": "plugin list", "Patch.ListPatches": "patch list", "Policy.ListPolicies": "policy list", "Token.ListTokens": "token list",
	"Workspace.ListWorkspaces": "workspace list",
}

// Every method that changes something has a command with the flags of changes,
// and every list one with those of lists.
func TestFlagsOfMethods(t *testing.T) {
	root := newTestApp(Streams{}).newRoot(nil)
	want := func(method, path string, flags ...string) {
		cmd, rest, err := root.Find(strings.Fields(path))
		if path == "" || err != nil || len(rest) > 0 {
			t.Errorf("%s: there is no command %q", method, path)
			return
		}
		for _, f := range flags {
			if cmd.Flags().Lookup(f) == nil {
				t.Errorf("`sop %s` has no --%s", path, f)
			}
		}
	}
	found := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := string(service.Name()) + "." + string(m.Name())
				if m.Input().Fields().ByName("idempotency_key") != nil {
					found++
					want(name, changers[name], "check", "idempotency-key")
				}
				if strings.HasPrefix(string(m.Name()), "List") {
					found++
					want(name, listers[name], "filter", "order-by")
				}
			}
		}
		return true
	})
	if found < len(changers)+len(listers) {
		t.Errorf("only %d methods", found)
	}
}

// Every command says in one line what it does, and shows how; every chapter of
// the help has some.
func TestEveryCommandIsExplained(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.ContainsAny(cmd.Short, "\n") || len(cmd.Short) > 80 || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short text %q", cmd.CommandPath(), cmd.Short)
		}
		if !cmd.HasSubCommands() && cmd.Name() != "help" && !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	root := newTestApp(Streams{}).newRoot(nil)
	visit(root)
	for _, sub := range root.Commands() {
		if sub.GroupID == "" && sub.Name() != "help" {
			t.Errorf("%s stands in no chapter of the help", sub.Name())
		}
	}
}
