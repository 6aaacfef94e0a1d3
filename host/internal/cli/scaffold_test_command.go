//go:build !front

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	"github.com/sop-host/sop/sdk/scaffold"
)

type scaffoldTestOptions struct {
	*app
	dir    string
	params map[string]string
}

func (a *app) newScaffoldTestCommand() *cobra.Command {
	o := &scaffoldTestOptions{app: a}
	cmd := &cobra.Command{
		Use:   "test NAME|DIR [PATH]",
		Short: "Try a scaffold on its examples, and on a tree",
		Long: `Apply a scaffold, by its name or its directory, to the examples beside it; exit 1 when one does not hold. With PATH, also
look for gaps in that tree and show, as a diff, what it would change there. Nothing is written.`,
		Example: "  sop scaffold test go-doc\n  sop scaffold test ./scaffolds/changelog . --param page=index",
		Args:    arguments(1, 2, "NAME|DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args)
		},
	}
	cmd.Flags().StringToStringVar(&o.params, "param", nil, "`name=value` of a parameter, for PATH; may be given again")
	a.scaffoldsFlag(cmd, &o.dir)
	return cmd
}

// scaffoldTrial is what came of a test, in JSON.
type scaffoldTrial struct {
	Scaffold string             `json:"scaffold"`
	Examples []scaffold.Verdict `json:"examples"`
	Patches  []scaffoldPatch    `json:"patches,omitempty"`
	Refused  []scaffoldRefusal  `json:"refused,omitempty"`
}

type scaffoldPatch struct {
	Path string `json:"path"`
	Diff string `json:"diff"`
}

type scaffoldRefusal struct {
	Path   string `json:"path"`
	Line   int32  `json:"line,omitempty"`
	Symbol string `json:"symbol,omitempty"`
	Reason string `json:"reason"`
}

func (o *scaffoldTestOptions) run(ctx context.Context, args []string) error {
	ctx, cancel := o.bounded(ctx, scanTimeout)
	defer cancel()
	s, err := o.find(args[0])
	if err != nil {
		return err
	}
	trial := &scaffoldTrial{Scaffold: s.Name, Examples: s.Test(ctx)}
	if len(args) > 1 {
		if err := o.tryOn(ctx, s, args[1], trial); err != nil {
			return here(err)
		}
	}
	if err := o.print(trial, len(args) > 1); err != nil {
		return err
	}
	if slices.ContainsFunc(trial.Examples, func(v scaffold.Verdict) bool { return v.Problem != "" }) {
		return exitError(exitFailed)
	}
	return nil
}

// find takes a directory that holds a scaffold, or else a name.
func (o *scaffoldTestOptions) find(name string) (*scaffold.Scaffold, error) {
	if _, err := os.Stat(filepath.Join(name, scaffold.FileName)); err == nil {
		s, err := scaffold.LoadDir(name)
		if err != nil {
			return nil, scaffoldError(err)
		}
		return s, nil
	}
	set, err := o.loadScaffolds(o.dir)
	if err != nil {
		return nil, err
	}
	return o.scaffoldNamed(set, name)
}

// tryOn applies s to every gap that is found in the tree at path, one after the
// other, in memory.
func (o *scaffoldTestOptions) tryOn(ctx context.Context, s *scaffold.Scaffold, path string, trial *scaffoldTrial) (err error) {
	params, err := o.parameters(s)
	if err != nil {
		return err
	}
	outcome, err := o.engine.ScanOnce(ctx, startup.ScanOptions{Path: absolute(path), PluginsDir: o.pluginsDir(), Version: o.version.Version, Timeout: scanTimeout})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	base, err := scaffold.NewDirTree(root)
	if err != nil {
		return err
	}
	draft := scaffold.NewDraft(base)
	slices.SortStableFunc(outcome.Gaps, bySeverity)
	for _, g := range outcome.Gaps {
		gap := scaffold.Gap{
			ID: g.GetId(), Rule: g.GetRule(), Type: g.GetType(), Path: g.GetPath(), Line: int(g.GetLine()), Symbol: g.GetSymbol(), Message: g.GetMessage(),
		}
		if !s.Applies(gap) {
			continue
		}
		changes, err := s.Apply(ctx, &scaffold.Input{Tree: draft, Gap: gap, Parameters: params})
		var refusal *scaffold.RefusedError
		switch {
		case errors.As(err, &refusal) || errors.Is(err, fs.ErrNotExist):
			trial.Refused = append(trial.Refused, scaffoldRefusal{gap.Path, g.GetLine(), gap.Symbol, err.Error()})
		case err != nil && !errors.Is(err, scaffold.ErrNothing):
			return err
		}
		draft.Add(changes)
	}
	for _, c := range draft.Changes() {
		trial.Patches = append(trial.Patches, scaffoldPatch{c.Path, string(diff.Diff("a/"+c.Path, c.Before, "b/"+c.Path, c.Content))})
	}
	return nil
}

// parameters reads --param by the types that s declares.
func (o *scaffoldTestOptions) parameters(s *scaffold.Scaffold) (map[string]any, error) {
	out := make(map[string]any, len(o.params))
	for name, text := range o.params {
		i := slices.IndexFunc(s.Parameters, func(p scaffold.Parameter) bool { return p.Name == name })
		if i < 0 {
			return nil, usagef("scaffold %s has no parameter %q", s.Name, name)
		}
		out[name] = text
		if s.Parameters[i].Type != "string" {
			var v any
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				return nil, usagef("--param %s: %s is no %s", name, strconv.Quote(text), s.Parameters[i].Type)
			}
			out[name] = v
		}
	}
	return out, nil
}

func (o *scaffoldTestOptions) print(trial *scaffoldTrial, onTree bool) error {
	if o.json() {
		return printJSON(o.Out, trial)
	}
	palette := o.palette(o.OutTerminal)
	for _, v := range trial.Examples {
		if v.Problem == "" {
			o.say("%s  %s\n", palette.Paint(term.Green, "ok"), term.Safe(v.Example))
			continue
		}
		o.say("%s  %s: %s\n", palette.Paint(term.Red, "failed"), term.Safe(v.Example), term.Safe(v.Problem))
	}
	if len(trial.Examples) == 0 {
		o.note("%s has no examples\n", term.Safe(trial.Scaffold))
	}
	for _, p := range trial.Patches {
		if _, err := io.WriteString(o.Out, term.SafeLines(p.Diff)); err != nil {
			return err
		}
	}
	for _, r := range trial.Refused {
		o.note("not closed: %s: %s\n", term.Safe(place(r.Path, r.Line)), term.Safe(r.Reason))
	}
	if onTree && len(trial.Patches)+len(trial.Refused) == 0 {
		o.note("no gap there is for %s\n", term.Safe(trial.Scaffold))
	}
	return nil
}
