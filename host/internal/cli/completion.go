//go:build !front

package cli

import (
	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

type completionOptions struct {
	*app
	shell string
}

func (a *app) newCompletionCommand() *cobra.Command {
	o := &completionOptions{app: a}
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Write a shell completion script",
		Long:      "Write a script that completes sop's commands and flags, for bash, zsh, fish or powershell.",
		Example:   "  source <(sop completion bash)\n  sop completion zsh > \"${fpath[1]}/_sop\"\n  sop completion fish > ~/.config/fish/completions/sop.fish",
		Args:      arguments(1, 1, "the name of a shell"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.shell = args[0]
			return o.run(cmd.Root())
		},
	}
}

func (o *completionOptions) run(root *cobra.Command) error {
	switch o.shell {
	case "bash":
		return root.GenBashCompletionV2(o.Out, true)
	case "zsh":
		return root.GenZshCompletion(o.Out)
	case "fish":
		return root.GenFishCompletion(o.Out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(o.Out)
	}
	return usagef("unknown shell %q", o.shell).WithRemedy("use %s", orList(shells))
}
