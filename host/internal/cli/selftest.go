//go:build !front

package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
)

// selftestTimeout bounds the self-test; it takes some seconds.
const selftestTimeout = 3 * time.Minute

type selftestOptions struct{ *app }

func (a *app) newSelftestCommand() *cobra.Command {
	o := selftestOptions{a}
	return &cobra.Command{
		Use:   "selftest",
		Short: "Try out on a scratch host what a host is for",
		Long: `Start a host in a scratch directory, with the bundled plugins and a store of its own, and try out under test tokens what a
host is for: the life of tokens, finding and resolving known gaps, saving and restoring byte for byte, a sandbox, the
audit log. A host that runs is not touched, no configuration is needed, and nothing is left. Exit 1 when a step failed.`,
		Example:     "  sop selftest\n  sop selftest -o json | jq .passed",
		Args:        noArguments,
		Annotations: exits(""),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
}

func (o selftestOptions) run(ctx context.Context) error {
	limited, cancel := o.bounded(ctx, selftestTimeout)
	defer cancel()
	opt := startup.SelfTesting{PluginsDir: o.pluginsDir(), Version: o.version.Version}
	if !o.json() {
		opt.OnStep = o.print
	}
	report := o.engine.SelfTest(limited, opt)
	if o.json() {
		if err := printJSON(o.Out, report); err != nil {
			return err
		}
	} else {
		word := o.palette(o.OutTerminal).Paint(term.Green, "passed")
		if !report.Passed {
			word = o.palette(o.OutTerminal).Paint(term.BoldRed, "failed")
		}
		o.say("\n%s in %s\n", word, took(report.Took))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !report.Passed {
		return exitError(exitFailed)
	}
	return nil
}

// The widths of what stands before the detail of a step.
const stepNameWidth, stepStateWidth, stepTookWidth = 8, 7, 7

// print writes a step when it has ended.
func (o selftestOptions) print(s startup.SelfTestStep) {
	palette := o.palette(o.OutTerminal)
	style := map[string]term.Style{startup.StepPassed: term.Green, startup.StepFailed: term.BoldRed, startup.StepSkipped: term.Yellow}[s.State]
	indent := strings.Repeat(" ", stepNameWidth+stepStateWidth+stepTookWidth+4)
	within := func(text string) string {
		return strings.ReplaceAll(strings.TrimRight(term.SafeLines(text), "\n"), "\n", "\n"+indent)
	}
	o.say("%s %s %*s  %s\n", palette.Paint(term.Bold, pad(s.Name, stepNameWidth)), palette.Paint(style, pad(s.State, stepStateWidth)),
		stepTookWidth, took(s.Took), within(s.Detail))
	if s.Remedy != "" {
		o.say("%s%s %s\n", indent, palette.Paint(term.BoldCyan, "remedy:"), within(s.Remedy))
	}
}
