//go:build !front

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/sdk/scaffold"
)

type scaffoldShowOptions struct {
	*app
	dir    string
	source bool
}

func (a *app) newScaffoldShowCommand() *cobra.Command {
	o := &scaffoldShowOptions{app: a}
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a scaffold",
		Example: "  sop scaffold show go-doc\n  sop scaffold show go-doc --source > scaffold.tmpl",
		Args:    arguments(1, 1, "NAME"),
		RunE:    func(_ *cobra.Command, args []string) error { return o.run(args[0]) },
	}
	cmd.Flags().BoolVar(&o.source, "source", false, "write its file as it is")
	a.scaffoldsFlag(cmd, &o.dir)
	return cmd
}

func (o *scaffoldShowOptions) run(name string) error {
	set, err := o.loadScaffolds(o.dir)
	if err != nil {
		return err
	}
	s, err := o.scaffoldNamed(set, name)
	if err != nil {
		return err
	}
	switch {
	case o.json():
		d := newScaffoldDocument(s)
		d.Source = string(s.Source)
		return printJSON(o.Out, map[string]scaffoldDocument{"scaffold": d})
	case o.source:
		_, err := o.Out.Write(s.Source)
		return err
	}
	o.print(s)
	return nil
}

func (o *scaffoldShowOptions) print(s *scaffold.Scaffold) {
	o.say("%s %s  %s\n", o.palette(o.OutTerminal).Paint(term.Bold, term.Safe(s.Name)), term.Safe(s.Version), term.Safe(s.Summary))
	for _, f := range [][2]string{
		{"place", s.Place},
		{"gap types", strings.Join(s.GapTypes, ", ")},
		{"rules", strings.Join(s.Rules, ", ")},
		{"languages", strings.Join(s.Languages, ", ")},
		{"paths", strings.Join(s.Paths, ", ")},
		{"checks", strings.Join(s.Checks, ", ")},
		{"examples", fmt.Sprint(len(s.Examples))},
		{"origin", s.Origin},
		{"sha256", scaffold.Hash(s.Source)},
	} {
		if f[1] != "" {
			o.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	if len(s.Parameters) > 0 {
		o.say("\nparameters\n")
	}
	for _, p := range s.Parameters {
		o.say("  %s %s\n", term.Pad(p.Name, 12), term.Safe(p.Type+", "+needOf(p)+": "+p.Description))
	}
}

func needOf(p scaffold.Parameter) string {
	text := "optional"
	switch {
	case p.Required:
		text = "required"
	case p.Default != nil:
		text = fmt.Sprintf("default %v", p.Default)
	}
	if len(p.Choices) > 0 {
		text += ", " + orList(p.Choices)
	}
	return text
}
