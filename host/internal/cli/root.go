package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `SOP keeps watch over source trees: it runs beside them, finds gaps in code, documentation and
infrastructure through plugins, and keeps track of each until it is gone.

First steps:
  sop init             write a commented config.hcl
  sop plugin lock      record the plugins' checksums
  sop up               start the host; Ctrl-C stops it
  sop status           how it stands, from another terminal
  sop doctor           what is wrong, whether it runs or not, and what to do
  sop gap list         what it found

Without any set-up:
  sop scan PATH        look for gaps in one tree, once`

// Annotations of commands.
const (
	annotationExits = "exits" // the exit codes beside 0, 1 and 2, one digit each
	annotationSARIF = "sarif" // takes -o sarif
)

// exits makes the annotation that names the exit codes of a command.
func exits(codes string) map[string]string { return map[string]string{annotationExits: codes} }

// execute runs one command line.
func (a *app) execute(ctx context.Context, args []string) int {
	out := &checkedWriter{w: a.Out}
	a.Out = out
	root := a.newRoot(args) //nolint:contextcheck // commands get ctx from ExecuteContext
	root.SetArgs(longFlags(root, args))
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	err := root.ExecuteContext(ctx)
	if err != nil && wantsJSON(args) {
		a.global.output = outputJSON // also where the flags could not be read to the end
	}
	if quiet := exitError(0); out.err != nil && !a.outMayEnd && (err == nil || errors.As(err, &quiet)) {
		err = fmt.Errorf("cannot write the result: %w", out.err)
	}
	return a.report(err)
}

// wantsJSON looks for -o json in a command line that need not be right.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "-ojson", "-o=json", "--output=json", "-output=json":
			return true
		case "-o", "--output", "-output":
			if i+1 < len(args) && args[i+1] == outputJSON {
				return true
			}
		}
	}
	return false
}

// A chapter is a part of the help's list of commands.
type chapter struct {
	heading  string
	commands []entry
}

// entry is how to make a command.
type entry struct {
	name string
	make func() *cobra.Command
}

func (a *app) chapters() []chapter {
	return []chapter{
		{"Run a host", []entry{
			{"up", a.newUpCommand},
			{"init", a.newInitCommand},
			{"validate", a.newValidateCommand},
			{"fmt", a.newFmtCommand},
			{"plan", a.newPlanCommand},
			{"reload", a.newReloadCommand},
			{"status", a.newStatusCommand},
			{"doctor", a.newDoctorCommand},
			{"selftest", a.newSelftestCommand},
			{"component", a.newComponentCommand},
			{"emergency-stop", a.newEmergencyStopCommand},
			{"resume", a.newResumeCommand},
			{"analyze", a.newAnalyzeCommand},
		}},
		{"Work with what it keeps", []entry{
			{"workspace", a.newWorkspaceCommand},
			{"gap", a.newGapCommand},
			{"task", a.newTaskCommand},
			{"fix", a.newFixCommand},
			{"patch", a.newPatchCommand},
			{"backup", a.newBackupCommand},
			{"plugin", a.newPluginCommand},
			{"protocol", a.newProtocolCommand},
			{"maintenance", a.newMaintenanceCommand},
			{"event", a.newEventCommand},
		}},
		{"Say who may do what, and see who did", []entry{
			{"agent", a.newAgentCommand}, {"token", a.newTokenCommand}, {"policy", a.newPolicyCommand}, {"audit", a.newAuditCommand},
		}},
		{"Without a host", []entry{
			{"scan", a.newScanCommand},
			{"sandbox", a.newSandboxCommand},
			{"scaffold", a.newScaffoldCommand},
			{"api", a.newAPICommand},
			{"version", a.newVersionCommand},
			{"completion", a.newCompletionCommand},
		}},
	}
}

// addCommands adds those that the arguments may mean: making all of them takes
// longer than asking a host. Where no name is among the arguments, all are needed,
// to be listed or to say which was meant.
func (a *app) addCommands(root *cobra.Command, args []string) {
	named := func(e entry) bool { return slices.Contains(args, e.name) }
	chapters := a.chapters()
	all := !slices.ContainsFunc(chapters, func(c chapter) bool { return slices.ContainsFunc(c.commands, named) })
	for _, c := range chapters {
		root.AddGroup(&cobra.Group{ID: c.heading, Title: c.heading})
		for _, e := range c.commands {
			if all || named(e) {
				command := e.make()
				command.GroupID = c.heading
				root.AddCommand(command)
			}
		}
	}
}

// newRoot makes the command that holds all others, or at least those that the
// arguments may mean.
func (a *app) newRoot(args []string) *cobra.Command {
	root := a.newGroup("sop", "Run and ask the SOP host", rootLong)
	a.addCommands(root, args)
	root.Example = `  sop init && sop plugin lock && sop up
  sop status --watch
  sop gap list --severity high
  sop scan . --format sarif --fail-on high > sop.sarif`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(a.hiddenCommands()...)
	root.SetHelpCommand(a.newHelpCommand())
	root.SetHelpFunc(a.help)
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.checkGlobals(cmd) }
	a.addGlobals(root)
	return root
}

func (a *app) addGlobals(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVarP(&a.global.config, "config", "c", "", "configuration `path`, a file or a directory (default $SOP_CONFIG, ./config.hcl or .)")
	flags.StringVar(&a.global.socket, "socket", "", "`path` of the host's socket (default $SOP_SOCKET, or in the configured data_dir)")
	flags.StringVar(&a.global.pluginsDir, "plugins-dir", "", "`directory` of the bundled plugins (default $SOP_PLUGINS_DIR, or plugins beside sop)")
	flags.StringVarP(&a.global.output, "output", "o", outputTable, "output `form`: table or json")
	flags.DurationVar(&a.global.timeout, "timeout", 0, "longest `time` to wait, such as 30s (default: what suits the command)")
	flags.BoolVar(&a.global.noColor, "no-color", false, "no colours, as with NO_COLOR set")
	a.addRemote(flags)
	a.completeWords(root, "output", outputTable, outputJSON)
}

// checkGlobals refuses what no command can work with. Only commands that say so
// take SARIF.
func (a *app) checkGlobals(cmd *cobra.Command) error {
	form := a.global.output
	if form != outputTable && form != outputJSON && (form != outputSARIF || cmd.Annotations[annotationSARIF] == "") {
		forms := []string{outputTable, outputJSON}
		if cmd.Annotations[annotationSARIF] != "" {
			forms = append(forms, outputSARIF)
		}
		a.global.output = outputTable
		return usagef("unknown output form %q", form).WithRemedy("use %s", orList(forms))
	}
	if a.global.timeout < 0 {
		return usagef("--timeout must not be negative")
	}
	a.prepare()
	return nil
}

// newGroup returns a command that only holds others.
func (a *app) newGroup(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args:                       cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	group.AddCommand(commands...)
	return group
}

// completeWords offers words for a flag to the shell.
func (a *app) completeWords(cmd *cobra.Command, flag string, words ...string) {
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag was not defined before
	}
}

// longFlags lets flags be written as Go's own tools write them: -check for
// --check. Without it that would be read as -c heck.
func longFlags(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil {
		cmd = root
	}
	out := make([]string, len(args))
	copy(out, args)
	for i, arg := range out {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "--") || len(name) < 2 {
			continue
		}
		if cmd.Flags().Lookup(name) != nil || root.PersistentFlags().Lookup(name) != nil {
			out[i] = "-" + arg
		}
	}
	return out
}
