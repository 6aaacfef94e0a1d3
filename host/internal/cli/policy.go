//go:build !front

package cli

import (
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/startup"
)

func (a *app) newPolicyCommand() *cobra.Command {
	return a.newGroup("policy", "Check, test and explain who may do what",
		`Policies decide who may do what. They are written in Cedar, in the directory that policy.dir in the configuration
names; without one the default policies are in force. What nothing permits is denied.`,
		a.newPolicyInitCommand(), a.newPolicyValidateCommand(), a.newPolicyTestCommand(), a.newPolicyExplainCommand(),
		a.newPolicyListCommand(), a.newPolicySchemaCommand())
}

// policySource is what commands work with that ask no host: the directory, or
// what the configuration names, where there is one.
func (a *app) policySource(dir string) startup.PolicySource {
	s := startup.PolicySource{Dir: dir, PluginsDir: a.pluginsDir()}
	if dir == "" && a.requireConfig() == nil {
		s.ConfigPath = a.configPath()
	}
	return s
}

// refused ends a command whose policies are no good, having said why.
func (a *app) refused(diagnostics config.Diagnostics) error {
	if a.json() {
		return diagnostics.Err()
	}
	if err := a.printDiagnostics(diagnostics); err != nil {
		return err
	}
	return exitError(exitFailed)
}

// printDiagnostics writes them for people.
func (a *app) printDiagnostics(diagnostics config.Diagnostics) error {
	return diagnostics.WriteText(a.Err, bool(a.palette(a.ErrTerminal)), a.width())
}
