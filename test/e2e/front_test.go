package e2e_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The command in front knows every command of the host by its name, and whoever
// asks for help cannot tell the two programs apart.
func TestFrontKnowsEveryCommand(t *testing.T) {
	t.Parallel()
	host := filepath.Join(shelf, "bin", "sop-host")
	commands := regexp.MustCompile(`(?m)^  ([a-z][a-z-]+) {2,}\S`)
	asked := 0
	var walk func(path []string)
	walk = func(path []string) {
		args := slices.Concat(path, []string{"--help"})
		ours, whole := output(t, sopProgram(), args), output(t, host, args)
		asked++
		if ours != whole {
			t.Errorf("sop %s:\n%s\nsop-host says:\n%s", strings.Join(args, " "), ours, whole)
		}
		_, below, hasMore := strings.Cut(whole, " COMMAND [flags]\n")
		if !hasMore {
			return
		}
		below, _, _ = strings.Cut(below, "\nFlags")
		for _, m := range commands.FindAllStringSubmatch(below, -1) {
			if m[1] != "sop" {
				walk(slices.Concat(path, m[1:2]))
			}
		}
	}
	walk(nil)
	if asked < 80 {
		t.Errorf("only %d commands were found", asked)
	}
}

func output(t *testing.T, program string, args []string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v", program, args, err)
	}
	return string(out)
}

// A host that left no word of where it listens, as one with temporary files of its
// own, is found by its configuration: the whole host reads that.
func TestFrontWithoutWord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	s.up()
	s.env = append(s.env, "XDG_RUNTIME_DIR="+t.TempDir(), "TMPDIR="+t.TempDir())
	s.must(0, "status")
	s.must(0, "gap", "list")
}

// Alone it says what it lacks.
func TestFrontAlone(t *testing.T) {
	t.Parallel()
	alone := filepath.Join(t.TempDir(), "sop")
	if err := copyProgram(sopProgram(), alone); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), alone, "up")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "remedy: install sop-host beside sop") {
		t.Errorf("%v: %s", err, out)
	}
}
