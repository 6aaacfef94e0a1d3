package sandbox

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// at does one run at a level.
func at(t *testing.T, level Level, workspace string, argv ...string) *Outcome {
	t.Helper()
	needs(t, level)
	profile := DefaultProfile
	profile.Level = level
	profile.Limits.Wall = time.Minute
	out, err := runner().Run(t.Context(), Spec{Profile: profile, Workspace: workspace, Argv: argv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	return out
}

// What the weaker levels let through is known and written down.
func TestWeakerLevels(t *testing.T) {
	for level, open := range map[Level][]string{
		LevelNSNoProc: nil,
		LevelLandlock: {},
	} {
		t.Run(string(level), func(t *testing.T) {
			goals := outside(t)
			arm(t, goals.Workspace, goals)
			out := at(t, level, goals.Workspace, "./attacker", "try", "targets.json")
			if out.Status != Exited || out.Level != level {
				t.Fatalf("%v, level %q, refusal %v\n%s", out.Status, out.Level, out.Refusal, out.Stderr.Text)
			}
			made := reports(t, out.Stdout.Text)
			if len(made) < leastAttacks {
				t.Errorf("only %d attacks were made", len(made))
			}
			for _, r := range made {
				if r.Succeeded && !slices.Contains(open, r.Attack) {
					t.Errorf("%s: not contained", r.Attack)
				}
			}
		})
	}
}

func TestEveryLevelFindsTheSameChanges(t *testing.T) {
	for _, level := range Levels {
		out := at(t, level, workspace(t), "sh", "-ec", "echo x > x; echo more >> a.txt; rm b.txt; rm -r d; chmod 755 script.sh; touch keep/k.txt; ln -sfn x link")
		want := []string{"delete d/e/f.txt", "delete d/e", "delete d/c.txt", "delete d", "delete b.txt", "modify a.txt", "symlink link", "chmod script.sh", "add x"}
		if diff := cmp.Diff(want, brief(changes(t, out))); diff != "" {
			t.Errorf("%s: -want +got\n%s", level, diff)
		}
	}
}

func TestDaemonsDieAtEveryLevel(t *testing.T) {
	for _, level := range Levels {
		word := "sop-level-" + strconv.FormatInt(time.Now().UnixNano(), 36)
		dir := t.TempDir()
		arm(t, dir, targets{})
		out := at(t, level, dir, "sh", "-c", "./attacker bomb daemon "+word+"; (setsid ./attacker bomb sleep "+word+" &) ; ./attacker bomb sleep "+word+" & exit 0")
		if out.Status != Exited {
			t.Errorf("%s: %v %v", level, out.Status, out.Limits)
		}
		if pids := alive(word); len(pids) > 0 {
			t.Errorf("%s: processes %v have outlived the run", level, pids)
		}
	}
}

func TestWallTimeAtEveryLevel(t *testing.T) {
	for _, level := range Levels {
		needs(t, level)
		profile := Profile{Name: "short", Level: level, Limits: Limits{Wall: 300 * time.Millisecond}}
		out, err := runner().Run(t.Context(), Spec{Profile: profile, Workspace: t.TempDir(), Argv: []string{"sleep", "60"}})
		if err != nil {
			t.Fatal(err)
		}
		if out.Status != Limited || out.ExitCode() != ExitTimeout {
			t.Errorf("%s: %v, exit code %d", level, out.Status, out.ExitCode())
		}
		if _, told := out.Phases["ended"]; !told && out.private != nil {
			t.Errorf("%s: the launcher has not told how it ended", level)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestProbe(t *testing.T) {
	levels, err := runner().Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range levels {
		if l.Works == (l.Refusal != nil) {
			t.Errorf("%s: works %v, refusal %v", l.Level, l.Works, l.Refusal)
		}
		t.Logf("%-10s %v %v", l.Level, l.Works, l.Took)
	}
}
