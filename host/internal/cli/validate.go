//go:build !front

package cli

import (
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/config"
)

type validateOptions struct{ *app }

func (a *app) newValidateCommand() *cobra.Command {
	o := validateOptions{a}
	return &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check the configuration",
		Long: `Check the configuration and show every problem at once, with file, line and caret. Plugins' own settings are checked
against what the plugins said when they were locked; no plugin is run.`,
		Example: "  sop validate\n  sop validate ./conf.d -o json",
		Args:    arguments(0, 1, "PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.global.config = args[0]
			}
			return o.run()
		},
	}
}

func (o validateOptions) run() error {
	if err := o.requireConfig(); err != nil {
		return err
	}
	diagnostics := o.engine.Validate(o.configPath(), o.pluginsDir())
	if err := o.print(diagnostics); err != nil {
		return err
	}
	if diagnostics.HasErrors() {
		return exitError(exitFailed)
	}
	return nil
}

func (o validateOptions) print(diagnostics config.Diagnostics) error {
	valid := !diagnostics.HasErrors()
	if o.json() {
		return printJSON(o.Out, struct {
			Valid       bool               `json:"valid"`
			Diagnostics config.Diagnostics `json:"diagnostics"`
		}{valid, diagnostics})
	}
	if err := diagnostics.WriteText(o.Err, bool(o.palette(o.ErrTerminal)), o.width()); err != nil {
		return err
	}
	if valid {
		o.say("%s is valid\n", o.configPath())
	}
	return nil
}
