//go:build front

package cli

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk/fault"
)

// Built with the tag front, this package is the command in front: it asks a host
// that runs, and hands every other command to the program that holds the whole
// host, in its own place. That one is ten times as large, and a program takes the
// longer to start the more of it there is; who asks how a host stands, or for the
// use of a token, should not wait for a database, a policy engine and a parser.

// hostProgram is the whole; it lies beside this program.
const hostProgram = "sop-host"

// own is what this process was started with, to be handed on.
type own struct{ args []string }

func newOwn(args []string) own { return own{args: args} }

// handOver makes the whole host of this process, or ends it where that fails.
func (a *app) handOver() {
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	whole := filepath.Join(filepath.Dir(program), hostProgram)
	if err == nil {
		err = syscall.Exec(whole, append([]string{os.Args[0]}, a.args...), os.Environ())
	}
	os.Exit(a.report(fault.Errorf(codes.NotFound, "HOST_PROGRAM_MISSING", "%s cannot be started: %w", whole, err).
		WithRemedy("install %s beside %s: they belong together", hostProgram, filepath.Base(program))))
}

// elsewhere is a command that the whole host carries out.
func (a *app) elsewhere(name string) *cobra.Command {
	return &cobra.Command{Use: name, DisableFlagParsing: true, Run: func(*cobra.Command, []string) { a.handOver() }}
}

// prepare hands over what cannot be done here, before any input is read.
func (a *app) prepare() {
	if !a.isRemote() {
		a.socket()
	}
}

// configuredSocket stands in the configuration, which this program does not read.
func (a *app) configuredSocket() string {
	a.handOver()
	return ""
}

// hiddenCommands answer the shell that asks how a command line may go on.
func (a *app) hiddenCommands() []*cobra.Command {
	complete := a.elsewhere(cobra.ShellCompRequestCmd)
	complete.Aliases, complete.Hidden = []string{cobra.ShellCompNoDescRequestCmd}, true
	return []*cobra.Command{complete}
}

// help is told by the whole host, which knows all commands.
func (a *app) help(*cobra.Command, []string) { a.handOver() }

func (a *app) newUpCommand() *cobra.Command            { return a.elsewhere("up") }
func (a *app) newInitCommand() *cobra.Command          { return a.elsewhere("init") }
func (a *app) newValidateCommand() *cobra.Command      { return a.elsewhere("validate") }
func (a *app) newFmtCommand() *cobra.Command           { return a.elsewhere("fmt") }
func (a *app) newPlanCommand() *cobra.Command          { return a.elsewhere("plan") }
func (a *app) newDoctorCommand() *cobra.Command        { return a.elsewhere("doctor") }
func (a *app) newSelftestCommand() *cobra.Command      { return a.elsewhere("selftest") }
func (a *app) newEmergencyStopCommand() *cobra.Command { return a.elsewhere("emergency-stop") }
func (a *app) newResumeCommand() *cobra.Command        { return a.elsewhere("resume") }
func (a *app) newAnalyzeCommand() *cobra.Command       { return a.elsewhere("analyze") }
func (a *app) newPluginLockCommand() *cobra.Command    { return a.elsewhere("lock") }
func (a *app) newPolicyCommand() *cobra.Command        { return a.elsewhere("policy") }
func (a *app) newAuditVerifyCommand() *cobra.Command   { return a.elsewhere("verify") }
func (a *app) newScanCommand() *cobra.Command          { return a.elsewhere("scan") }
func (a *app) newSandboxCommand() *cobra.Command       { return a.elsewhere("sandbox") }
func (a *app) newScaffoldCommand() *cobra.Command      { return a.elsewhere("scaffold") }
func (a *app) newVersionCommand() *cobra.Command       { return a.elsewhere("version") }
func (a *app) newAPICommand() *cobra.Command           { return a.elsewhere("api") }
func (a *app) newCompletionCommand() *cobra.Command    { return a.elsewhere("completion") }
func (a *app) newHelpCommand() *cobra.Command          { return a.elsewhere("help") }
