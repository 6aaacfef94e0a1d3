package startup

import (
	"slices"
	"testing"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/sandbox"
)

func TestConfiguredCaches(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	t.Setenv("GOCACHE", "/srv/go-build")
	got := configuredCaches([]config.SandboxCache{{Name: "go-build"}, {Name: "go-mod"}, {Name: "pip", Path: "/srv/pip"}, {Name: "mine", Path: "/srv/mine", Env: []string{"MINE"}}})
	want := []sandbox.Cache{
		{Name: "go-build", Path: "/srv/go-build", Env: []string{"GOCACHE"}},
		{Name: "go-mod", Path: "/home/u/go/pkg/mod", Env: []string{"GOMODCACHE"}},
		{Name: "pip", Path: "/srv/pip", Env: []string{"PIP_CACHE_DIR"}},
		{Name: "mine", Path: "/srv/mine", Env: []string{"MINE"}},
	}
	if !slices.EqualFunc(got, want, func(a, b sandbox.Cache) bool {
		return a.Name == b.Name && a.Path == b.Path && slices.Equal(a.Env, b.Env)
	}) {
		t.Errorf("%+v", got)
	}
}

// What the configuration knows by name is what the sandbox does.
func TestKnownCaches(t *testing.T) {
	for _, name := range config.KnownCaches {
		c, known := sandbox.KnownCache(name, "/home/u", func(string) (string, bool) { return "", false })
		p := sandbox.DefaultProfile
		p.Caches = []sandbox.Cache{c}
		if !known || p.Validate() != nil {
			t.Errorf("%s: %+v, %v", name, c, p.Validate())
		}
	}
}
