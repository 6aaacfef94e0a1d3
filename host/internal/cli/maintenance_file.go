package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type maintenanceFileOptions struct {
	*app
	change
	request apiv1.FileMaintenanceRequest
}

func (a *app) newMaintenanceFileCommand() *cobra.Command {
	o := &maintenanceFileOptions{app: a}
	cmd := &cobra.Command{
		Use:         "file SUBSYSTEM DESCRIPTION",
		Short:       "Ask for the maintenance of a subsystem",
		Long:        "Ask for the maintenance of a subsystem. Where that is open already, it is counted.",
		Example:     "  sop maintenance file component.scp 'recall answers with nothing since noon' --severity high",
		Args:        withoutSecrets(arguments(2, 2, "SUBSYSTEM and DESCRIPTION")),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Subsystem, o.request.Description = args[0], args[1]
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.request.Severity, "severity", "medium", "how `bad` it is: low, medium, high or critical")
	flags.StringVar(&o.request.Remedy, "remedy", "", "what to do about it, in `words`")
	flags.StringVarP(&o.request.Workspace, "workspace", "w", "", "in this workspace, by `name`")
	o.addChange(cmd)
	a.completeWords(cmd, "severity", maintenanceSeverities...)
	return cmd
}

func (o *maintenanceFileOptions) run(ctx context.Context) error {
	if err := oneOf("severity", o.request.Severity, maintenanceSeverities); err != nil {
		return err
	}
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.maintenance().FileMaintenance(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the request would be filed")
	}
	return o.printMaintenance(answer.Msg.GetRequest())
}

type maintenanceCloseOptions struct {
	*app
	change
	request apiv1.CloseMaintenanceRequest
}

func (a *app) newMaintenanceCloseCommand() *cobra.Command {
	o := &maintenanceCloseOptions{app: a}
	cmd := &cobra.Command{
		Use:         "close ID",
		Short:       "Close a request by hand",
		Long:        "Close a request by hand. Most close by themselves, when the subsystem is healthy again.",
		Example:     "  sop maintenance close 019cb000 --reason 'the disk was replaced'",
		Args:        arguments(1, 1, "ID"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *maintenanceCloseOptions) run(ctx context.Context) error {
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.maintenance().CloseMaintenance(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the request would be closed")
	}
	return o.printMaintenance(answer.Msg.GetRequest())
}
