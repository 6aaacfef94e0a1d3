package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A Cache is a directory of the host that a run sees and may write to, while
// the host's own stays as it is. What a run has put there is gone after it.
type Cache struct {
	Name string   `json:"name"`
	Path string   `json:"path"` // on the host; where there is nothing, or without one, the run finds an empty one
	Env  []string `json:"env"`  // variables that tell programs where it is
}

// Dir is where a run finds the cache.
func (c Cache) Dir() string { return launch.CacheDir + "/" + c.Name }

func (p Profile) validateCaches() error {
	seen := make(map[string]bool)
	for _, c := range p.Caches {
		switch {
		case p.Level != LevelStrict && p.Level != LevelNSNoProc:
			return fmt.Errorf("cache %q: level %s has no caches, since it has no copy-on-write views", c.Name, p.Level)
		case c.Name == "" || c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, "/\x00"):
			return fmt.Errorf("%q cannot be the name of a cache", c.Name)
		case seen[c.Name]:
			return fmt.Errorf("there are two caches %q", c.Name)
		case c.Path == "":
		case !filepath.IsAbs(c.Path) || filepath.Clean(c.Path) != c.Path || slices.Contains(closedTrees, c.Path):
			return fmt.Errorf("cache %q: %s cannot be shown to a sandbox: name a directory of its own by its absolute path", c.Name, c.Path)
		}
		seen[c.Name] = true
		for _, name := range c.Env {
			if !cacheVariable(name) {
				return fmt.Errorf("cache %q: the variable %q is not for a cache", c.Name, name)
			}
		}
	}
	return nil
}

// cacheVariable refuses what decides which program runs or who it is.
func cacheVariable(name string) bool {
	switch name {
	case "", "PATH", "HOME", "TMPDIR", "LANG", "TZ", "GOFLAGS", "GOENV", "GOROOT", "GOTOOLCHAIN", "PYTHONPATH", "PYTHONHOME", "NODE_OPTIONS", "BASH_ENV", "ENV":
		return false
	}
	return !strings.HasPrefix(name, "SOP_") && !strings.HasPrefix(name, "LD_") && !strings.ContainsAny(name, "=\x00")
}

// knownCaches are those of common tools: the variables by which each is found,
// the first of which may also say where the host's is, and where it usually is,
// beneath the user's home.
var knownCaches = map[string]struct {
	env  []string
	path string
}{
	"ccache":        {[]string{"CCACHE_DIR"}, ".cache/ccache"},
	"composer":      {[]string{"COMPOSER_CACHE_DIR"}, ".cache/composer"},
	"go-build":      {[]string{"GOCACHE"}, ".cache/go-build"},
	"go-mod":        {[]string{"GOMODCACHE"}, "go/pkg/mod"},
	"golangci-lint": {[]string{"GOLANGCI_LINT_CACHE"}, ".cache/golangci-lint"},
	"npm":           {[]string{"npm_config_cache"}, ".npm"},
	"pip":           {[]string{"PIP_CACHE_DIR"}, ".cache/pip"},
	"pnpm":          {[]string{"npm_config_store_dir"}, ".local/share/pnpm/store"},
	"uv":            {[]string{"UV_CACHE_DIR"}, ".cache/uv"},
	"yarn":          {[]string{"YARN_CACHE_FOLDER"}, ".cache/yarn"},
}

// KnownCache returns the cache of a common tool as it is on this host, for
// this user; false for a name that is none. lookup answers for the host's
// environment, home is the user's; empty: there is none.
func KnownCache(name, home string, lookup func(string) (string, bool)) (Cache, bool) {
	known, found := knownCaches[name]
	if !found {
		return Cache{}, false
	}
	c := Cache{Name: name, Env: slices.Clone(known.env)}
	if home != "" {
		c.Path = filepath.Join(home, known.path)
	}
	if path, set := lookup(known.env[0]); set && filepath.IsAbs(path) {
		c.Path = filepath.Clean(path)
	}
	return c, true
}

// place is where the cache truly is; empty where the host has none.
func (c Cache) place() (string, error) {
	if c.Path == "" {
		return "", nil
	}
	path, err := filepath.EvalSymlinks(c.Path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cache %q: %w", c.Name, err)
	}
	return path, nil
}

// addCaches puts the caches into a plan, with the variables that name them.
func addCaches(p *launch.Plan, caches []Cache) error {
	for _, c := range caches {
		path, err := c.place()
		if err != nil {
			return err
		}
		if slices.Contains(closedTrees, path) {
			return fmt.Errorf("cache %q: %s cannot be shown to a sandbox: a whole tree of the system is no cache", c.Name, path)
		}
		p.Caches = append(p.Caches, launch.Cache{Tree: launch.Tree{Path: path}, Target: c.Dir()})
		p.Writable = append(p.Writable, c.Dir())
		for _, name := range c.Env {
			p.Env = append(p.Env, name+"="+c.Dir())
		}
	}
	return nil
}
