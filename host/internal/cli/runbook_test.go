package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const runbook = "../../../docs/runbook.md"

// runbookLines are the commands of the runbook: the lines of its fenced blocks,
// without what is said of them.
func runbookLines(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	within := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			within = !within
			continue
		}
		if within {
			command, _, _ := strings.Cut(line, "#")
			lines = append(lines, strings.TrimSpace(command))
		}
	}
	return lines
}

// shellWords splits a line as a shell does, as far as the runbook needs.
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

// Every command of the runbook is one: it exists, takes these flags and as many
// arguments, and is parsed as it is when it is run.
func TestRunbook(t *testing.T) {
	lines := runbookLines(t)
	if len(lines) < 50 {
		t.Errorf("only %d commands", len(lines))
	}
	for _, line := range lines {
		args := shellWords(line)
		if len(args) < 2 || args[0] != "sop" {
			t.Errorf("%q is no command of sop", line)
			continue
		}
		root := newTestApp(Streams{}).newRoot(nil)
		cmd, rest, err := root.Find(longFlags(root, args[1:]))
		if err != nil || cmd == root || cmd.HasSubCommands() {
			t.Errorf("`%s`: there is no such command: %v", line, err)
			continue
		}
		if err := parses(cmd, rest); err != nil {
			t.Errorf("`%s`: %v", line, err)
		}
	}
}

func parses(cmd *cobra.Command, args []string) error {
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
