package cli

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const repository = "../../../"

// blockLines are the lines of the fenced blocks of a page; one that goes on in the next
// is one with it.
func blockLines(t *testing.T, page string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	within, begun := false, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			within = !within
			continue
		}
		if !within {
			continue
		}
		if more, ok := strings.CutSuffix(line, "\\"); ok {
			begun += more
			continue
		}
		lines = append(lines, begun+line)
		begun = ""
	}
	return lines
}

// sopCommands are the commands of sop in a line of shell, without what is said of
// them and without files that they read or write.
func sopCommands(line string) (out [][]string) {
	var words []string
	redirected := false
	for _, word := range append(shellWords(strings.ReplaceAll(line, "$(", " ; ")), ";") {
		switch word {
		case "|", "&&", ";", "#":
			if len(words) > 0 && path.Base(words[0]) == "sop" {
				out = append(out, words[1:])
			}
			if words, redirected = nil, false; word == "#" {
				return out
			}
		case "<", ">", "2>":
			redirected = true
		default:
			if !redirected {
				words = append(words, word)
			}
		}
	}
	return out
}

// shellWords splits a line as a shell does, as far as our pages need.
func shellWords(line string) (out []string) {
	var word strings.Builder
	var quote rune
	begun := false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, begun = r, true
		case quote == 0 && r == ' ':
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	return out
}

// Every command that the help and the pages show is one: it exists, takes these flags
// and as many arguments, and is parsed as it is when it is run.
func TestDocumentedCommands(t *testing.T) {
	examples := make(map[string][]string)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		examples["help of "+cmd.CommandPath()] = strings.Split(cmd.Example, "\n")
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newTestApp(Streams{}).newRoot(nil))
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/*.md"} {
		pages, err := filepath.Glob(repository + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			examples[strings.TrimPrefix(page, repository)] = blockLines(t, page)
		}
	}
	found := 0
	for where, lines := range examples {
		for _, line := range lines {
			for _, args := range sopCommands(line) {
				found++
				if err := parses(args); err != nil {
					t.Errorf("%s: `%s`: %v", where, line, err)
				}
			}
		}
	}
	if found < 300 {
		t.Errorf("only %d commands", found)
	}
}

// The runbook shows nothing but commands of sop.
func TestRunbook(t *testing.T) {
	lines := blockLines(t, repository+"docs/runbook.md")
	if len(lines) < 50 {
		t.Errorf("only %d commands", len(lines))
	}
	for _, line := range lines {
		if len(sopCommands(line)) != 1 {
			t.Errorf("%q is no command of sop", line)
		}
	}
}

func parses(args []string) error {
	root := newTestApp(Streams{}).newRoot(nil)
	cmd, rest, err := root.Find(longFlags(root, args))
	if err != nil {
		return err
	}
	if cmd == root || cmd.HasSubCommands() {
		return fmt.Errorf("%s is no command by itself", cmd.CommandPath())
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
