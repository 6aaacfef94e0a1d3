//go:build !front

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
)

var sandboxLevels = []string{"strict", "ns-noproc", "landlock", "none"}

// maxSandboxInput bounds what a command is given to read, in bytes.
const maxSandboxInput = 16 << 20

type sandboxRunOptions struct {
	*app
	request startup.SandboxRequest
	input   string
}

func (a *app) newSandboxRunCommand() *cobra.Command {
	o := &sandboxRunOptions{app: a}
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command in isolation and show what it would change",
		Long: `Run a command on a copy-on-write view of a workspace and show what it wrote, what it would change there, and the
evidence: limits hit, calls denied, resources used. The workspace itself is not touched. The command finds the workspace at
/workspace, a home and a /tmp of its own, the host's programs, no network but what the profile allows, and of the environment only what
--env sets.
Where the level cannot be had, nothing is run.

Exit 1 when the command failed, 4 when the sandbox was refused or the changes were rejected, 7 when it ran out of time.`,
		Example: `  sop sandbox run -- sh -c 'echo "# notes" >> README.md'
  sop sandbox run --workspace ~/src/app --env SOP_SEED=1 -o json -- ./generate.sh
  sop sandbox run --stdin prompt.txt --keep -- my-generator`,
		Args:        arguments(1, maxCommandWords, "COMMAND"),
		Annotations: exits("47"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Argv = args
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&o.request.Profile, "profile", "", "run under this `profile` (default: the one named default)")
	flags.StringVar(&o.request.Workspace, "workspace", ".", "`directory` to show a view of")
	flags.StringVar(&o.request.Level, "level", "", "demand this `level` instead of the profile's: "+strings.Join(sandboxLevels, ", "))
	flags.StringArrayVar(&o.request.Env, "env", nil, "set a variable, as `SOP_NAME=value`; repeatable")
	flags.StringVar(&o.input, "stdin", "", "give the command this `file` to read, - for standard input (default: nothing)")
	flags.BoolVar(&o.request.Keep, "keep", false, "keep the changes and the evidence in a new directory, and name it")
	a.completeWords(cmd, "level", sandboxLevels...)
	return cmd
}

const maxCommandWords = 10_000

func (o *sandboxRunOptions) run(ctx context.Context) error {
	if o.request.Level != "" {
		if err := oneOf("level", o.request.Level, sandboxLevels); err != nil {
			return err
		}
	}
	var err error
	if o.request.Stdin, err = o.readInput(); err != nil {
		return err
	}
	o.request.ConfigPath, o.request.PluginsDir = o.optionalConfig(), o.pluginsDir()
	if o.global.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.global.timeout)
		defer cancel()
	}
	outcome, err := o.engine.Sandbox.Run(ctx, o.request)
	if err != nil {
		return here(err)
	}
	if o.json() {
		err = printJSON(o.Out, outcome)
	} else {
		o.print(outcome)
	}
	return errors.Join(err, sandboxVerdict(outcome))
}

func (o *sandboxRunOptions) readInput() (data []byte, err error) {
	from := o.In
	if o.input == "" {
		return nil, nil
	}
	if o.input != "-" {
		file, err := os.Open(o.input)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // only read from
		from = file
	}
	data, err = io.ReadAll(io.LimitReader(from, maxSandboxInput+1))
	if err == nil && len(data) > maxSandboxInput {
		err = usagef("--stdin gives more than %d bytes", maxSandboxInput)
	}
	return data, err
}

// sandboxVerdict is how the command line ends when all has been told.
func sandboxVerdict(outcome *startup.SandboxOutcome) error {
	switch status := outcome.Status.String(); {
	case status == "refused" || len(outcome.Rejected) > 0:
		return exitError(exitDenied)
	case status == "limited" && outcome.ExitCode == exitCodeTimeout:
		return exitError(exitTimeout)
	case status == "canceled":
		return context.Canceled
	case outcome.ExitCode != 0:
		return exitError(exitFailed)
	}
	return nil
}

// exitCodeTimeout is what the sandbox says of a run that took too long.
const exitCodeTimeout = 124

func (o *sandboxRunOptions) print(outcome *startup.SandboxOutcome) {
	o.say("%s", newlined(term.SafeLines(outcome.Stdout.Text)))
	o.note("%s", newlined(term.SafeLines(outcome.Stderr.Text)))
	palette := o.palette(o.OutTerminal)
	if outcome.Diff != "" {
		o.say("%s\n%s", palette.Paint(term.Bold, "Changes:"), newlined(term.SafeLines(outcome.Diff)))
	}
	o.sayFlagged(outcome)
	o.say("%s\n%s", palette.Paint(term.Bold, "Evidence:"), evidence(outcome))
}

// newlined ends a text that has something in it with a newline.
func newlined(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

func evidence(outcome *startup.SandboxOutcome) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s %s\n", name, term.Safe(fmt.Sprintf(format, args...)))
	}
	line("status", "%s, exit %d", outcome.Status, outcome.ExitCode)
	if outcome.Refusal != nil {
		line("refused", "%s", outcome.Refusal.String())
	} else {
		line("level", "%s, landlock %d", outcome.Level, outcome.LandlockABI)
		used := outcome.Usage
		line("used", "%s, cpu %s, memory %s", outcome.Phases["done"].Round(time.Millisecond),
			(time.Duration(used.User+used.System) * time.Microsecond).Round(time.Millisecond), mebibytes(used.MemoryPeak))
	}
	if len(outcome.Limits) > 0 {
		line("limits", "%s", strings.Join(outcome.Limits, ", "))
	}
	for _, d := range outcome.Network {
		line("network", "%s", networkDecision(d.Target, d.Why, d.Allowed, d.Credential, d.Count))
	}
	for _, d := range outcome.Denied {
		line("denied", "%s by %s, %d times", d.Syscall, d.Process, d.Count)
	}
	if outcome.Stdout.Truncated || outcome.Stderr.Truncated {
		line("output", "cut; %d bytes on stdout, %d on stderr", outcome.Stdout.Bytes, outcome.Stderr.Bytes)
	}
	for _, note := range outcome.Notes {
		line("note", "%s", note)
	}
	if outcome.Kept != "" {
		line("kept", "%s", outcome.Kept)
	}
	return b.String()
}

// networkDecision says what became of requests to one target.
func networkDecision(target, why string, allowed, credential bool, count int) string {
	verdict := "denied"
	if allowed {
		verdict = "allowed"
	}
	if credential {
		verdict += " with a credential of the host"
	}
	if why != "" {
		verdict += ": " + why
	}
	return fmt.Sprintf("%s, %d times, %s", target, count, verdict)
}
