package sandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

func shown(p *launch.Plan) []string {
	var out []string
	for _, m := range p.Mounts {
		out = append(out, m.Target)
	}
	return out
}

// A plugin sees the workspaces, by every name, and what the profile adds; equal
// questions have equal answers, since a plan is part of what a plugin is.
func TestPluginPlan(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	profile := Profile{Name: "p", Level: LevelStrict, ReadOnly: []string{"/opt/tools"}}
	ask := func() *launch.Plan {
		p, err := PluginPlan(profile, []string{link, "/nowhere/yet"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := ask()
	for _, want := range []string{"/usr", "/opt/tools", link, dir, "/nowhere/yet"} {
		if !slices.Contains(shown(p), want) {
			t.Errorf("it does not show %s: %v", want, shown(p))
		}
	}
	for _, never := range []string{"/", "/etc", "/run", "/root"} {
		if slices.Contains(shown(p), never) {
			t.Errorf("it shows %s", never)
		}
	}
	first, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if again, err := json.Marshal(ask()); err != nil || string(again) != string(first) {
			t.Fatalf("%s\nand then %s, %v", first, again, err)
		}
	}
}

func TestPluginPlanRefused(t *testing.T) {
	if p, err := PluginPlan(Profile{Name: "p", Level: LevelNone}, nil); p != nil || err != nil {
		t.Errorf("level none: %v, %v", p, err)
	}
	for name, c := range map[string]struct {
		profile    Profile
		workspaces []string
	}{
		"whole machine":    {Profile{Level: LevelStrict}, []string{"/"}},
		"/etc":             {Profile{Level: LevelLandlock}, []string{"/etc"}},
		"profile shows /":  {Profile{Level: LevelLandlock, ReadOnly: []string{"/"}}, nil},
		"level of its own": {Profile{Level: "stricter"}, nil},
	} {
		if _, err := PluginPlan(c.profile, c.workspaces); err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
}
