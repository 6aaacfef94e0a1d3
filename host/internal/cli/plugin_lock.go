//go:build !front

package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
)

const lockTimeout = 2 * time.Minute

type pluginLockOptions struct {
	*app
	check, quiet bool
}

func (a *app) newPluginLockCommand() *cobra.Command {
	o := &pluginLockOptions{app: a}
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Record the checksums of the configured plugins",
		Long: `Record the checksums of the configured plugins in sop.lock.hcl beside the configuration, with what each says about
itself. The host starts no plugin whose checksum differs. This runs each plugin that is new or has changed, so lock
only what you trust.`,
		Example:     "  sop plugin lock\n  sop plugin lock --check   # writes nothing; exit 3 when the lock file is out of date",
		Args:        noArguments,
		Annotations: exits("37"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 3 when something would change")
	cmd.Flags().BoolVar(&o.quiet, "quiet", false, "only show what changes")
	return cmd
}

// lockChange is the JSON form of [startup.LockChange].
type lockChange struct {
	ID      string `json:"id"`
	Action  string `json:"action"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	OldHash string `json:"old_hash"`
}

func (o *pluginLockOptions) run(ctx context.Context) error {
	if err := o.requireConfig(); err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, lockTimeout)
	defer cancel()
	changes, err := o.engine.Lock(ctx, o.configPath(), o.pluginsDir(), o.version.Version, o.check)
	if err != nil && len(changes) == 0 {
		return here(err)
	}
	if err := errors.Join(here(err), o.print(changes)); err != nil {
		return err
	}
	for _, change := range changes {
		if o.check && change.Action != "unchanged" {
			return exitError(exitPending)
		}
	}
	return nil
}

func (o *pluginLockOptions) print(changes []startup.LockChange) error {
	if o.json() {
		out := make([]lockChange, len(changes))
		for i, c := range changes {
			out[i] = lockChange{ID: c.ID, Action: c.Action, Version: c.Version, Hash: c.Hash, OldHash: c.OldHash}
		}
		return printJSON(o.Out, map[string][]lockChange{"changes": out})
	}
	if o.quiet {
		changes = slices.DeleteFunc(changes, func(c startup.LockChange) bool { return c.Action == "unchanged" })
	}
	if len(changes) == 0 {
		if !o.quiet {
			o.say("no plugins are configured\n")
		}
		return nil
	}
	table := o.table(3, "PLUGIN", "LOCK", "VERSION", "HASH")
	for _, c := range changes {
		table.Row(term.Text(c.ID), term.Styled(actionStyle(c.Action), c.Action), term.Text(c.Version), term.Text(c.Hash))
	}
	_, err := table.WriteTo(o.Out)
	return err
}
