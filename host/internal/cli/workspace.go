package cli

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newWorkspaceCommand() *cobra.Command {
	return a.newGroup("workspace", "List and scan the governed trees",
		"A workspace is a tree that the host keeps watch over. Its block in the configuration says where it is and when it is scanned.",
		a.newWorkspaceListCommand(), a.newWorkspaceShowCommand(), a.newWorkspaceScanCommand())
}

type workspaceListOptions struct {
	*app
	narrow apiv1.ListWorkspacesRequest
}

func (a *app) newWorkspaceListCommand() *cobra.Command {
	o := &workspaceListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List the configured workspaces",
		Example:     "  sop workspace list\n  sop workspace list --filter 'state = scanning' -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "name = docs-*", "last_scan desc")
	return cmd
}

func (o *workspaceListOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.narrow.PageSize = largestPage
	workspaces, err := everyPage(func(token string) ([]*apiv1.WorkspaceStatus, string, error) {
		o.narrow.PageToken = token
		answer, err := c.workspace().ListWorkspaces(ctx, connect.NewRequest(&o.narrow))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetWorkspaces(), answer.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"workspaces": wires(workspaces)})
	}
	if len(workspaces) == 0 {
		o.say("no workspaces\n")
		return nil
	}
	_, err = o.workspaceTable(workspaces).WriteTo(o.Out)
	return err
}

func (a *app) workspaceTable(workspaces []*apiv1.WorkspaceStatus) *term.Table {
	table := a.table(4, "WORKSPACE", "STATE", "LAST SCAN", "GAPS", "PATH")
	for _, ws := range workspaces {
		table.Row(term.Text(ws.GetName()), term.Styled(stateStyle(ws.GetState()), ws.GetState()), term.Text(a.lastScan(ws.GetLastScan())),
			term.Text(fmt.Sprint(openGaps(ws.GetGaps()))), term.Text(ws.GetPath()))
	}
	return table
}

func (a *app) newWorkspaceShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "show NAME",
		Short:       "Show one workspace with its last scan",
		Example:     "  sop workspace show main\n  sop workspace show main -o json",
		Args:        arguments(1, 1, "the NAME of a workspace"),
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.runWorkspaceShow(cmd.Context(), args[0]) },
	}
}

func (a *app) runWorkspaceShow(ctx context.Context, name string) error {
	ctx, cancel := a.bounded(ctx, queryTimeout)
	defer cancel()
	c := a.connect()
	defer c.Close()
	answer, err := c.workspace().GetWorkspace(ctx, connect.NewRequest(&apiv1.GetWorkspaceRequest{Name: name}))
	if err != nil {
		return err
	}
	ws := answer.Msg.GetWorkspace()
	if a.json() {
		return printJSON(a.Out, map[string]wire{"workspace": {ws}})
	}
	a.say("%s  %s\n  path  %s\n  gaps  %s\n", a.palette(a.OutTerminal).Paint(term.Bold, term.Safe(ws.GetName())),
		term.Safe(ws.GetState()), term.Safe(ws.GetPath()), a.countsOf(ws.GetGaps()))
	if ws.GetLastScan() != nil {
		a.say("  scan  %s: ", a.lastScan(ws.GetLastScan()))
		a.printReport(ws.GetLastScan())
	}
	return nil
}

type workspaceScanOptions struct {
	*app
	change
	name string
}

func (a *app) newWorkspaceScanCommand() *cobra.Command {
	o := &workspaceScanOptions{app: a}
	cmd := &cobra.Command{
		Use:   "scan NAME",
		Short: "Have the host scan a workspace now, and wait for it",
		Long: `Have the host scan a workspace now, and wait until the scan has ended. One that began before is waited for, and
another follows. Exit code 3 says that it is incomplete: something could not be examined. ` + "`sop scan PATH`" + ` looks at a tree
without a host.`,
		Example:     "  sop workspace scan main\n  sop workspace scan main -o json",
		Args:        arguments(1, 1, "the NAME of a workspace"),
		Annotations: exits("34567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(cmd.Context())
		},
	}
	o.addChange(cmd)
	return cmd
}

func (o *workspaceScanOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, scanTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.workspace().ScanWorkspace(ctx, connect.NewRequest(&apiv1.ScanWorkspaceRequest{
		Workspace: o.name, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the workspace would be scanned")
	}
	scan := answer.Msg.GetScan()
	if o.json() {
		err = printJSON(o.Out, map[string]wire{"scan": {scan}})
	} else {
		o.say("%s  ", term.Safe(o.name))
		o.printReport(scan)
	}
	if err == nil && !scan.GetComplete() {
		return exitError(exitPending)
	}
	return err
}

// printReport says in one line what a scan came to, and then what it could not
// examine.
func (a *app) printReport(scan *apiv1.ScanReport) {
	a.say("%s in %s, %d opened, %d reopened, %d resolved, %d as before\n", count(scan.GetFiles(), "file", "files"), took(scan.GetTook().AsDuration()),
		scan.GetOpened(), scan.GetReopened(), scan.GetResolved(), scan.GetUnchanged())
	palette := a.palette(a.OutTerminal)
	if scan.GetError() != "" {
		a.say("%s failed: %s\n", palette.Paint(term.Red, "!"), term.Safe(scan.GetError()))
	}
	for _, d := range scan.GetDiagnostics() {
		where := strings.TrimSpace(joinNonEmpty(" ", d.GetDetector(), place(d.GetPath(), d.GetLine())))
		a.say("%s %s\n", palette.Paint(term.Yellow, "-"), term.Safe(joinNonEmpty(": ", where, d.GetMessage())))
		if d.GetRemedy() != "" {
			a.say("  %s %s\n", palette.Paint(term.BoldCyan, "remedy:"), term.Safe(d.GetRemedy()))
		}
	}
	if more := scan.GetDiagnosticsTotal() - int64(len(scan.GetDiagnostics())); more > 0 {
		a.say("  and %d more\n", more)
	}
}
