//go:build !front

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sop-host/sop/host/internal/cli/term"
)

func (a *app) newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usagef("%v", err)
			}
			if len(rest) > 0 && found.HasSubCommands() {
				return unknownCommand(found, rest[0])
			}
			return found.Help()
		},
	}
}

// help writes the help of a command.
func (a *app) help(cmd *cobra.Command, _ []string) {
	cmd.InitDefaultHelpFlag()
	if err := cmd.Flags().MarkHidden("help"); err != nil {
		panic(err) // the line above defines it
	}
	h := helpText{palette: a.palette(a.OutTerminal)}
	h.about(cmd)
	h.usage(cmd)
	h.commands(cmd)
	h.flags("Flags", cmd.LocalNonPersistentFlags())
	h.flags("Flags of every command", cmd.Root().PersistentFlags())
	h.exits(cmd)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&h.Builder, "\n`%s COMMAND --help` tells more about a command.\n", cmd.CommandPath())
	}
	a.say("%s", h.String())
}

type helpText struct {
	strings.Builder
	palette term.Palette
}

func (h *helpText) heading(title string) {
	fmt.Fprintf(&h.Builder, "\n%s\n", h.palette.Paint(term.Bold, title+":"))
}

func (h *helpText) about(cmd *cobra.Command) {
	text := cmd.Short + "."
	if cmd.Long != "" {
		text = strings.TrimSpace(cmd.Long)
	}
	fmt.Fprintln(&h.Builder, text)
}

func (h *helpText) usage(cmd *cobra.Command) {
	h.heading("Usage")
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&h.Builder, "  %s COMMAND [flags]\n", cmd.CommandPath())
	} else {
		fmt.Fprintf(&h.Builder, "  %s\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		h.heading("Examples")
		fmt.Fprintln(&h.Builder, strings.TrimRight(cmd.Example, "\n"))
	}
}

func (h *helpText) commands(cmd *cobra.Command) {
	for _, chapter := range cmd.Groups() {
		h.chapter(cmd, chapter.Title, chapter.ID)
	}
	title := "Commands"
	if len(cmd.Groups()) > 0 {
		title = "Other"
	}
	h.chapter(cmd, title, "")
}

// chapter lists the commands of one group; the empty one is of those in none.
func (h *helpText) chapter(cmd *cobra.Command, title, group string) {
	first, width := true, 12
	for _, sub := range cmd.Commands() {
		width = max(width, len(sub.Name()))
	}
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() || sub.GroupID != group {
			continue
		}
		if first {
			h.heading(title)
		}
		first = false
		fmt.Fprintf(&h.Builder, "  %-*s %s\n", width, sub.Name(), sub.Short)
	}
}

func (h *helpText) flags(title string, flags *pflag.FlagSet) {
	if text := flags.FlagUsages(); text != "" {
		h.heading(title)
		h.WriteString(text)
	}
}

func (h *helpText) exits(cmd *cobra.Command) {
	h.heading("Exit codes")
	listed := cmd.Annotations[annotationExits]
	all := cmd.HasSubCommands()
	for code, meaning := range exitMeanings {
		if all || code <= exitUsage || slices.Contains([]byte(listed), byte('0'+code)) {
			fmt.Fprintf(&h.Builder, "  %d  %s\n", code, meaning)
		}
	}
}
