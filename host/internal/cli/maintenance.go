package cli

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// The states and severities of maintenance requests, as the API names them.
var (
	maintenanceStates     = []string{"open", "closed"}
	maintenanceSeverities = []string{"low", "medium", "high", "critical"}
)

func (a *app) newMaintenanceCommand() *cobra.Command {
	return a.newGroup("maintenance", "See and file what fails and needs repair",
		`A maintenance request names a subsystem that fails. The host, its components, plugins and protocols file them by
themselves, and so can you. A subsystem has one open request, which closes when it is healthy again.`,
		a.newMaintenanceListCommand(), a.newMaintenanceShowCommand(), a.newMaintenanceFileCommand(), a.newMaintenanceCloseCommand())
}

// printMaintenance writes one request with all there is to know.
func (a *app) printMaintenance(r *apiv1.MaintenanceRecord) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"request": {r}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s  %s\n", palette.Paint(severityStyle(r.GetSeverity()), term.Safe(r.GetSeverity())), palette.Paint(term.Bold, term.Safe(r.GetSubsystem())), term.Safe(r.GetState()))
	for _, f := range [][2]string{
		{"what", r.GetDescription()},
		{"remedy", r.GetRemedy()},
		{"owner", r.GetOwner()},
		{"workspace", r.GetWorkspace()},
		{"filed", joinNonEmpty(" by ", ago(a.now(), r.GetFirstSeen()), r.GetFiledBy())},
		{"last seen", joinNonEmpty(", ", ago(a.now(), r.GetLastSeen()), count(r.GetCount(), "time", "times"))},
		{"task", r.GetTask()},
		{"closed", closedText(a, r)},
		{"id", r.GetId()},
	} {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 10), term.Safe(f[1]))
		}
	}
	if len(r.GetHistory()) > 0 {
		a.say("\nhistory\n")
	}
	for _, c := range r.GetHistory() {
		line := c.GetAt().AsTime().Format("2006-01-02 15:04:05") + "  " + c.GetAction() + " by " + c.GetBy()
		a.say("  %s\n", term.Safe(joinNonEmpty(": ", line, c.GetReason())))
	}
	return nil
}

func closedText(a *app, r *apiv1.MaintenanceRecord) string {
	if r.GetClosedAt() == nil {
		return ""
	}
	return joinNonEmpty(": ", ago(a.now(), r.GetClosedAt())+" by "+r.GetClosedBy(), r.GetCloseReason())
}

type maintenanceListOptions struct {
	*app
	request apiv1.ListMaintenanceRequest
}

func (a *app) newMaintenanceListCommand() *cobra.Command {
	o := &maintenanceListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List what is open, worst first",
		Example:     "  sop maintenance list\n  sop maintenance list --state closed --subsystem protocol.arp -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.request.States, "state", nil, "only in these `states`: open, closed (default: open)")
	flags.StringVar(&o.request.Subsystem, "subsystem", "", "only about this `subsystem`")
	addNarrowing(cmd, &o.request.Filter, &o.request.OrderBy, "severity >= high", "count desc")
	a.completeWords(cmd, "state", maintenanceStates...)
	return cmd
}

func (o *maintenanceListOptions) run(ctx context.Context) error {
	for _, s := range o.request.States {
		if err := oneOf("state", s, maintenanceStates); err != nil {
			return err
		}
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.request.PageSize = largestPage
	all, err := everyPage(func(token string) ([]*apiv1.MaintenanceRecord, string, error) {
		o.request.PageToken = token
		answer, err := c.maintenance().ListMaintenance(ctx, connect.NewRequest(&o.request))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetRequests(), answer.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"requests": wires(all)})
	}
	if len(all) == 0 {
		o.say("no maintenance requests\n")
		return nil
	}
	table := o.table(5, "ID", "SEVERITY", "SUBSYSTEM", "OWNER", "SEEN", "DESCRIPTION")
	for _, r := range all {
		table.Row(term.Text(shortID(r.GetId())), term.Styled(severityStyle(r.GetSeverity()), r.GetSeverity()), term.Text(r.GetSubsystem()),
			term.Text(r.GetOwner()), term.Text(fmt.Sprintf("%s, %d×", ago(o.now(), r.GetLastSeen()), r.GetCount())), term.Text(r.GetDescription()))
	}
	_, err = table.WriteTo(o.Out)
	return err
}

type maintenanceShowOptions struct {
	*app
	id string
}

func (a *app) newMaintenanceShowCommand() *cobra.Command {
	o := &maintenanceShowOptions{app: a}
	return &cobra.Command{
		Use:         "show ID",
		Short:       "Show one request with what became of it",
		Example:     "  sop maintenance show 019cb000",
		Args:        arguments(1, 1, "ID"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
}

func (o *maintenanceShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.maintenance().GetMaintenance(ctx, connect.NewRequest(&apiv1.GetMaintenanceRequest{Id: o.id}))
	if err != nil {
		return err
	}
	return o.printMaintenance(answer.Msg.GetRequest())
}

// shortID is as much of an id as tells requests apart.
func shortID(id string) string {
	const enough = 13
	if len(id) > enough {
		return id[:enough]
	}
	return id
}
