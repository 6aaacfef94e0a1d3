//go:build !front

package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
)

type sandboxGenerateOptions struct {
	*app
	request startup.GenerateRequest
	task    string
	quiet   bool
}

func (a *app) newSandboxGenerateCommand() *cobra.Command {
	o := &sandboxGenerateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "generate --plugin ID --task FILE",
		Short: "Run a generator on a task and show what it would change",
		Long: `Run a sandbox plugin of the configuration on a task, in a view of a workspace, and show what it said, what it would change,
and the evidence. The task is JSON that conforms to docs/generator-task.schema.json. No host is needed, nothing is recorded, and
the workspace is not touched.

Exit 1 when the generator failed or needs a person, 3 when there was nothing to do, 4 when the sandbox was refused or the changes
were rejected, 7 when it ran out of time.`,
		Example: `  sop sandbox generate --plugin sandbox.scaffold --task task.json
  sop sandbox generate --plugin sandbox.claude --task - --workspace ~/src/app --keep < task.json
  sop sandbox generate --plugin sandbox.script --task task.json -o json | jq .changes`,
		Args: noArguments, Annotations: exits("347"),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.request.Plugin, "plugin", "", "run this sandbox plugin, such as `sandbox.scaffold` (required)")
	flags.StringVar(&o.task, "task", "", "read the task from this `file`, - for standard input (required)")
	flags.StringVar(&o.request.Profile, "profile", "", "run under this `profile` (default: the plugin's, or the one named default)")
	flags.StringVar(&o.request.Workspace, "workspace", ".", "`directory` to show a view of")
	flags.StringVar(&o.request.Level, "level", "", "demand this `level` instead of the profile's: "+strings.Join(sandboxLevels, ", "))
	flags.BoolVar(&o.request.Keep, "keep", false, "keep the changes and the evidence in a new directory, and name it")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not show progress and output while it runs")
	a.completeWords(cmd, "level", sandboxLevels...)
	return cmd
}

func (o *sandboxGenerateOptions) run(ctx context.Context) (err error) {
	if o.request.Plugin == "" || o.task == "" {
		return usagef("--plugin and --task are needed")
	}
	if o.request.Level != "" {
		if err := oneOf("level", o.request.Level, sandboxLevels); err != nil {
			return err
		}
	}
	if o.request.Task, err = o.readTask(); err != nil {
		return err
	}
	o.request.ConfigPath, o.request.PluginsDir, o.request.Version = o.configPath(), o.pluginsDir(), o.version.Version
	if !o.quiet && !o.json() {
		o.request.Report = func(e startup.GenerateEvent) { o.follow(e) }
	}
	if o.global.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.global.timeout)
		defer cancel()
	}
	outcome, err := o.engine.Sandbox.Generate(ctx, o.request)
	if err != nil {
		return here(err)
	}
	if o.json() {
		err = printJSON(o.Out, outcome)
	} else {
		o.print(outcome)
	}
	return errors.Join(err, generateVerdict(outcome))
}

func (o *sandboxGenerateOptions) readTask() (data []byte, err error) {
	from := o.In
	if o.task != "-" {
		file, err := os.Open(o.task)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // only read from
		from = file
	}
	data, err = io.ReadAll(io.LimitReader(from, maxSandboxInput+1))
	if err == nil && len(data) > maxSandboxInput {
		err = usagef("--task has more than %d bytes", maxSandboxInput)
	}
	return data, err
}

// follow shows what a generator reports, on standard error.
func (o *sandboxGenerateOptions) follow(e startup.GenerateEvent) {
	if e.Stream != "" {
		o.note("%s", term.SafeLines(strings.ToValidUTF8(string(e.Data), "�")))
		return
	}
	o.note("%s: %s\n", term.Safe(e.Phase), term.Safe(e.Message))
}

// generateVerdict is how the command line ends when all has been told.
func generateVerdict(outcome *startup.GenerateOutcome) error {
	switch outcome.Outcome.String() {
	case "changed":
		return nil
	case "nothing_to_do":
		return exitError(exitPending)
	case "refused", "rejected":
		return exitError(exitDenied)
	case "timeout":
		return exitError(exitTimeout)
	case "canceled":
		return context.Canceled
	}
	return exitError(exitFailed)
}

func (o *sandboxGenerateOptions) print(outcome *startup.GenerateOutcome) {
	palette := o.palette(o.OutTerminal)
	if outcome.Explanation != "" {
		o.say("%s\n%s", palette.Paint(term.Bold, "The generator says:"), newlined(term.SafeLines(outcome.Explanation)))
	}
	if outcome.Err != nil {
		o.say("%s %s\n", palette.Paint(term.BoldRed, "failed:"), term.Safe(outcome.Err.Message))
		if outcome.Err.Remedy != "" {
			o.say("  %s\n", term.Safe(outcome.Err.Remedy))
		}
	}
	if outcome.Diff != "" {
		o.say("%s\n%s", palette.Paint(term.Bold, "Changes:"), newlined(term.SafeLines(outcome.Diff)))
	}
	told := &startup.SandboxOutcome{Result: outcome.Evidence, ExitCode: outcome.Code, Kept: outcome.Kept}
	if outcome.Changes != nil {
		told.Changes, told.Rejected = outcome.Changes.Changes, outcome.Changes.Rejected
	}
	o.sayFlagged(told)
	o.say("%s\n  %-9s %s, code %d, %s\n%s", palette.Paint(term.Bold, "Evidence:"), "outcome", outcome.Outcome, outcome.Code,
		outcome.Ended.Sub(outcome.Started).Round(time.Millisecond), evidence(told))
}

// sayFlagged names what needs an approval of its own, and what no change set may
// have.
func (a *app) sayFlagged(outcome *startup.SandboxOutcome) {
	for _, c := range outcome.Changes {
		if c.Flag != "" {
			a.say("needs an approval of its own (%s): %s\n", c.Flag, term.Safe(c.Path))
		}
	}
	for _, r := range outcome.Rejected {
		a.say("%s %s\n", a.palette(a.OutTerminal).Paint(term.BoldRed, "rejected:"), term.Safe(r.String()))
	}
}
