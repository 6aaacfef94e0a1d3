//go:build !front

package cli

import (
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/scaffold"
)

func (a *app) newScaffoldCommand() *cobra.Command {
	return a.newGroup("scaffold", "List, test and begin scaffolds",
		`A scaffold is a template that closes gaps of some rules, always in the same way. The bundled ones need no host and
no configuration; --scaffolds adds a directory of your own, of which each holds a scaffold.tmpl with its examples.`,
		a.newScaffoldListCommand(), a.newScaffoldShowCommand(), a.newScaffoldTestCommand(), a.newScaffoldNewCommand())
}

// scaffoldsFlag is where scaffolds of one's own lie.
func (a *app) scaffoldsFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "scaffolds", "", "`directory` of your own scaffolds; yours is taken where names are equal")
}

// loadScaffolds reads the bundled scaffolds and those in dir, and says what
// takes the place of what.
func (a *app) loadScaffolds(dir string) (*scaffold.Set, error) {
	set, err := a.engine.Scaffolds(dir)
	if err != nil {
		return nil, scaffoldError(err)
	}
	for _, n := range set.Notes() {
		a.note("note: %s\n", term.Safe(n))
	}
	return set, nil
}

func scaffoldError(err error) error {
	return here(sdk.Errorf(codes.InvalidArgument, "SCAFFOLD_INVALID", "%w", err).WithRemedy("docs/scaffolds.md says what a scaffold may hold"))
}

func (a *app) scaffoldNamed(set *scaffold.Set, name string) (*scaffold.Scaffold, error) {
	if s := set.Get(name); s != nil {
		return s, nil
	}
	return nil, here(sdk.Errorf(codes.NotFound, "SCAFFOLD_UNKNOWN", "there is no scaffold %q", name).
		WithRemedy("`sop scaffold list` names those that there are; --scaffolds adds your own"))
}

// scaffoldDocument is a scaffold in JSON.
type scaffoldDocument struct {
	Name       string              `json:"name"`
	Version    string              `json:"version"`
	Summary    string              `json:"summary"`
	Place      string              `json:"place"`
	GapTypes   []string            `json:"gap_types"`
	Rules      []string            `json:"rules"`
	Languages  []string            `json:"languages"`
	Paths      []string            `json:"paths"`
	Checks     []string            `json:"checks"`
	Parameters []parameterDocument `json:"parameters"`
	Origin     string              `json:"origin"`
	Examples   int                 `json:"examples"`
	SHA256     string              `json:"sha256"`
	Source     string              `json:"source,omitempty"`
}

type parameterDocument struct {
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Description string   `json:"description"`
	Required    bool     `json:"required"`
	Default     any      `json:"default,omitempty"`
	Choices     []string `json:"choices,omitempty"`
}

func newScaffoldDocument(s *scaffold.Scaffold) scaffoldDocument {
	d := scaffoldDocument{
		Name: s.Name, Version: s.Version, Summary: s.Summary, Place: s.Place, Origin: s.Origin, Examples: len(s.Examples),
		GapTypes: words(s.GapTypes), Rules: words(s.Rules), Languages: words(s.Languages), Paths: words(s.Paths), Checks: words(s.Checks),
		Parameters: []parameterDocument{}, SHA256: scaffold.Hash(s.Source),
	}
	for _, p := range s.Parameters {
		d.Parameters = append(d.Parameters, parameterDocument(p))
	}
	return d
}

// words is never null in JSON.
func words(list []string) []string { return append([]string{}, list...) }
