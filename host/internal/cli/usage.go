package cli

import (
	"errors"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func unknownCommand(cmd *cobra.Command, name string) error {
	if strings.HasPrefix(name, "sop_") || strings.HasPrefix(name, "sopk_") {
		name = "sop_…" // it may be a secret, which is not to be shown
	}
	err := usagef("unknown command %q for %q", name, cmd.CommandPath())
	if similar := cmd.SuggestionsFor(name); len(similar) > 0 {
		return err.WithRemedy("did you mean %s? `%s --help` lists all", orList(quoted(similar)), cmd.CommandPath())
	}
	return err.WithRemedy("`%s --help` lists all", cmd.CommandPath())
}

// flagError makes what pflag says a usage error, with a suggestion.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Arg(0))
	}
	out := usagef("%v", err)
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		if similar := similarFlag(cmd, missing.GetSpecifiedName()); similar != "" {
			return out.WithRemedy("did you mean --%s? `%s --help` lists all flags", similar, cmd.CommandPath())
		}
	}
	return out.WithRemedy("`%s --help` lists all flags", cmd.CommandPath())
}

func similarFlag(cmd *cobra.Command, name string) string {
	best, least := "", max(2, len(name)/3)+1
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		distance := levenshtein.Distance(name, f.Name, nil)
		if strings.HasPrefix(f.Name, name) && len(name) > 1 {
			distance = 1
		}
		if distance < least {
			best, least = f.Name, distance
		}
	})
	return best
}

// arguments returns a check that a command is given between least and most of
// what is called name.
func arguments(least, most int, name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing", name).WithRemedy("usage: %s", cmd.UseLine())
		case len(args) > most && most == 0:
			return usagef("unexpected argument %q", args[most]).WithRemedy("usage: %s", cmd.UseLine())
		case len(args) > most:
			return usagef("unexpected argument %q after %s", args[most], name).WithRemedy("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

var noArguments = arguments(0, 0, "")

// oneOf returns an error when value is none of words.
func oneOf(flag, value string, words []string) error {
	for _, word := range words {
		if value == word {
			return nil
		}
	}
	return usagef("--%s: unknown value %q", flag, value).WithRemedy("use %s", orList(words))
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = "`" + word + "`"
	}
	return out
}

func orList(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
}
