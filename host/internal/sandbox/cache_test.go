package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withCaches is the default profile with some caches.
func withCaches(caches ...Cache) Profile {
	p := DefaultProfile
	p.Limits = Limits{Wall: 5 * time.Minute}
	p.Caches = caches
	return p
}

// runIn does one run under a profile.
func runIn(t *testing.T, profile Profile, workspace string, argv ...string) *Outcome {
	t.Helper()
	needs(t, profile.Level)
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

// A warm cache serves a sandboxed go test, which leaves it as it was.
func TestGoCache(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it compiles the standard library")
	}
	if os.Getenv(programsVariable) != "" {
		t.Skip("the first user's run compiles the standard library; TestCacheStays is for every user")
	}
	needs(t, LevelStrict)
	dir, cache := t.TempDir(), t.TempDir()
	openUp(t, dir)
	for name, text := range map[string]string{
		"go.mod":    "module example.com/m\n\ngo 1.24\n",
		"m.go":      "package m\n\n// Twice doubles.\nfunc Twice(n int) int { return 2 * n }\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestTwice(t *testing.T) {\n\tif Twice(2) != 4 {\n\t\tt.Fatal()\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	warm := exec.CommandContext(t.Context(), "go", "test", "-count=1", ".")
	warm.Dir = dir
	warm.Env = append(os.Environ(), "GOCACHE="+cache, "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := warm.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := fingerprint(t, cache)
	profile := withCaches(Cache{Name: "go-build", Path: cache, Env: []string{"GOCACHE"}})
	// One: the package itself, which lies elsewhere here.
	script := "export CGO_ENABLED=0; go build -x -o /tmp/x . 2>&1 | grep -c '/compile ' || true; echo '// more' >> m.go; go test -count=1 ."
	out := runIn(t, profile, dir, "sh", "-ec", script)
	if out.Status != Exited || out.Exit != 0 || !strings.HasPrefix(out.Stdout.Text, "1\nok") {
		t.Errorf("%v, exit %d, %v\n%s%s", out.Status, out.Exit, out.Refusal, out.Stdout.Text, out.Stderr.Text)
	}
	if got := brief(changes(t, out)); strings.Join(got, " ") != "modify m.go" {
		t.Errorf("changes %v", got)
	}
	if fingerprint(t, cache) != before {
		t.Error("the host's cache is not what it was")
	}
}

// Whatever a run does to a cache, it does to its own view.
func TestCacheStays(t *testing.T) {
	cache := t.TempDir()
	openUp(t, cache)
	for name, text := range map[string]string{"a/one": "1", "a/two": "2", "b": "3"} {
		path := filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	before := fingerprint(t, cache)
	profile := withCaches(Cache{Name: "mine", Path: cache, Env: []string{"MINE", "mine_too"}})
	script := `cd "$MINE"; [ "$MINE" = "$mine_too" ]; cat a/one; chmod u+w b a/two; echo poison > b; touch -d 2000-01-01 a/one; rm a/two; mv a c; ln -s /etc d; find . | sort | tr '\n' ' '`
	out := runIn(t, profile, t.TempDir(), "sh", "-ec", script)
	if out.Stdout.Text != "1. ./b ./c ./c/one ./d " || out.Exit != 0 {
		t.Errorf("%v, exit %d, %v: %q %q", out.Status, out.Exit, out.Refusal, out.Stdout.Text, out.Stderr.Text)
	}
	if got := changes(t, out); len(got.Changes) > 0 {
		t.Errorf("changes of the workspace: %v", brief(got))
	}
	if fingerprint(t, cache) != before {
		t.Error("the host's cache is not what it was")
	}
}

func TestMissingCache(t *testing.T) {
	homeless, _ := KnownCache("npm", "", func(string) (string, bool) { return "", false })
	for _, c := range []Cache{homeless, {Name: "npm", Path: filepath.Join(t.TempDir(), "none"), Env: []string{"npm_config_cache"}}} {
		out := runIn(t, withCaches(c), t.TempDir(), "sh", "-ec", `ls -A "$npm_config_cache"; echo x > "$npm_config_cache/x"; echo "$npm_config_cache"`)
		if out.Stdout.Text != "/cache/npm\n" || out.Exit != 0 {
			t.Errorf("%+v: %v, exit %d, %q %q", c, out.Status, out.Exit, out.Stdout.Text, out.Stderr.Text)
		}
	}
}

func TestCacheDisk(t *testing.T) {
	profile := withCaches(Cache{Name: "c", Path: t.TempDir(), Env: []string{"C"}})
	profile.Limits.DiskBytes = 1 << 20
	out := runIn(t, profile, t.TempDir(), "sh", "-c", `head -c 4000000 /dev/zero > "$C/x"`)
	if out.Exit == 0 {
		t.Error("a cache takes more than the disk limit")
	}
}

func TestRefusedCaches(t *testing.T) {
	for _, c := range []Cache{
		{Name: "", Path: "/srv/c"},
		{Name: "..", Path: "/srv/c"},
		{Name: "a/b", Path: "/srv/c"},
		{Name: "c", Path: "srv"},
		{Name: "c", Path: "/etc"},
		{Name: "c", Path: "/srv/../etc"},
		{Name: "c", Path: "/srv/c", Env: []string{"LD_PRELOAD"}},
		{Name: "c", Path: "/srv/c", Env: []string{"PATH"}},
		{Name: "c", Path: "/srv/c", Env: []string{"A=B"}},
		{Name: "c", Path: "/srv/c", Env: []string{"SOP_TASK"}},
	} {
		if withCaches(c).Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	twice := Cache{Name: "c", Path: "/srv/c"}
	if withCaches(twice, twice).Validate() == nil {
		t.Error("two of one name are accepted")
	}
	plain := withCaches(twice)
	plain.Level = LevelLandlock
	if plain.Validate() == nil {
		t.Error("a cache at landlock is accepted")
	}
}
