//go:build !front

package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
)

type scaffoldListOptions struct {
	*app
	dir string
}

func (a *app) newScaffoldListCommand() *cobra.Command {
	o := &scaffoldListOptions{app: a}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the scaffolds",
		Example: "  sop scaffold list\n  sop scaffold list --scaffolds /etc/sop/scaffolds -o json",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return o.run() },
	}
	a.scaffoldsFlag(cmd, &o.dir)
	return cmd
}

func (o *scaffoldListOptions) run() error {
	set, err := o.loadScaffolds(o.dir)
	if err != nil {
		return err
	}
	if o.json() {
		all := []scaffoldDocument{}
		for _, s := range set.All() {
			all = append(all, newScaffoldDocument(s))
		}
		return printJSON(o.Out, map[string][]scaffoldDocument{"scaffolds": all})
	}
	table := o.table(3, "SCAFFOLD", "VERSION", "RULES", "SUMMARY", "ORIGIN")
	for _, s := range set.All() {
		table.Row(term.Text(s.Name), term.Text(s.Version), term.Text(strings.Join(s.Rules, " ")), term.Text(s.Summary), term.Text(s.Origin))
	}
	_, err = table.WriteTo(o.Out)
	return err
}
