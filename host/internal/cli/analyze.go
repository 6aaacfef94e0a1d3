//go:build !front

package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	boot "github.com/sop-host/sop/host/internal/timeline"
)

func (a *app) newAnalyzeCommand() *cobra.Command {
	const boots = "A boot is the latest unless it is named: by a number that counts back from 0, by its name or the beginning of it,\nor by a file."
	return a.newGroup("analyze", "Show how the host came up, and what held it up",
		"The host keeps a timeline of each of its last boots under logs/boots/, which these commands read without it.\n"+boots,
		a.newAnalysis("timeline", "Show every phase of every start", "sop analyze timeline\n  sop analyze timeline 1 --format svg > boot.svg", 1, (*analysis).timeline),
		a.newAnalysis("blame", "List starts by how long each took itself", "sop analyze blame", 1, (*analysis).blame),
		a.newAnalysis("critical-chain", "Show which starts held up the last", "sop analyze critical-chain", 1, (*analysis).chain),
		a.newAnalysis("compare", "Show what became slower from one boot to another", "sop analyze compare 1 0", 2, (*analysis).compare))
}

// analysis is one of the commands.
type analysis struct {
	*app
	format string
}

func (a *app) newAnalysis(name, short, example string, most int, run func(*analysis, []*startup.Boot) error) *cobra.Command {
	o := &analysis{app: a}
	use, least := name+" [BOOT]", 0
	if most == 2 {
		use, least = name+" BEFORE AFTER", 2
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  " + example,
		Args:        arguments(least, most, "boots"),
		Annotations: exits("4"),
		RunE: func(cmd *cobra.Command, args []string) error {
			boots, err := o.boots(cmd.Context(), args)
			if err != nil {
				return here(err)
			}
			return run(o, boots)
		},
	}
	if name == "timeline" {
		cmd.Flags().StringVar(&o.format, "format", "text", "`form`: text, json or svg")
		a.completeWords(cmd, "format", "text", "json", "svg")
	}
	return cmd
}

// boots reads what the arguments name, from the directory of the host.
func (o *analysis) boots(_ context.Context, args []string) ([]*startup.Boot, error) {
	if len(args) == 0 {
		args = []string{"0"}
	}
	dir := filepath.Dir(filepath.Dir(o.socket()))
	var out []*startup.Boot
	for _, arg := range args {
		b, err := startup.ReadBoot(dir, arg)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (o *analysis) timeline(boots []*startup.Boot) error {
	all := boot.Activations(boots[0].Steps)
	switch {
	case o.format == "svg":
		return boot.SVG(o.Out, all)
	case o.format == "json" || o.json():
		return printJSON(o.Out, map[string]any{"boot": boots[0].Name, "activations": all})
	case o.format != "text":
		return usagef("unknown form %q", o.format).WithRemedy("use text, json or svg")
	}
	o.say("boot %s\n", term.Safe(boots[0].Name))
	table := o.table(3, "AT", "COMPONENT", "OUTCOME", "PHASES")
	for _, s := range all {
		table.Row(term.Text(took(s.Begin)), term.Text(s.Component), term.Styled(stateStyle(s.Outcome), s.Outcome), term.Text(phasesText(s.Phases)))
	}
	_, err := table.WriteTo(o.Out)
	return err
}

func phasesText(phases []boot.Span) string {
	var parts []string
	for _, p := range phases {
		parts = append(parts, p.Phase+" "+took(p.Took))
	}
	return joinNonEmpty(", ", parts...)
}

func (o *analysis) blame(boots []*startup.Boot) error {
	all := boot.Blame(boot.Activations(boots[0].Steps))
	if o.json() {
		return printJSON(o.Out, map[string]any{"boot": boots[0].Name, "activations": all})
	}
	table := o.table(1, "TOOK", "COMPONENT", "OUTCOME")
	for _, s := range all {
		table.Row(term.Text(took(s.Active())), term.Text(s.Component), term.Styled(stateStyle(s.Outcome), s.Outcome))
	}
	_, err := table.WriteTo(o.Out)
	return err
}

func (o *analysis) chain(boots []*startup.Boot) error {
	all := boot.CriticalChain(boot.Activations(boots[0].Steps))
	if o.json() {
		return printJSON(o.Out, map[string]any{"boot": boots[0].Name, "chain": all})
	}
	table := o.table(2, "READY AT", "TOOK", "COMPONENT")
	for _, s := range all {
		table.Row(term.Text(took(s.End)), term.Text("+"+took(s.Active())), term.Text(s.Component))
	}
	_, err := table.WriteTo(o.Out)
	return err
}

func (o *analysis) compare(boots []*startup.Boot) error {
	all := boot.Compare(boot.Activations(boots[0].Steps), boot.Activations(boots[1].Steps))
	if o.json() {
		return printJSON(o.Out, map[string]any{"before": boots[0].Name, "after": boots[1].Name, "differences": all})
	}
	table := o.table(3, "SLOWER BY", "BEFORE", "AFTER", "COMPONENT")
	for _, d := range all {
		table.Row(term.Text(signed(d.Slower())), term.Text(took(d.Before)), term.Text(took(d.After)), term.Text(d.Component))
	}
	_, err := table.WriteTo(o.Out)
	return err
}

func signed(d time.Duration) string {
	if d < 0 {
		return "-" + took(-d)
	}
	return fmt.Sprintf("+%s", took(d))
}
