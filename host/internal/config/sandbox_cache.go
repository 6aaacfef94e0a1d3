package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// A SandboxCache is a directory of the host that runs see a copy-on-write view
// of.
type SandboxCache struct {
	Name string
	Path string   `json:",omitempty"` // absolute; "" for where the cache of that name usually is
	Env  []string `json:",omitempty"` // beside the usual variables of a known name
}

// KnownCaches are the names whose place and variables need not be said.
var KnownCaches = []string{"ccache", "composer", "go-build", "go-mod", "golangci-lint", "npm", "pip", "pnpm", "uv", "yarn"}

var cacheAttributes = []string{"path", "env"}

// readCaches reads the cache blocks of a profile.
func (s section) readCaches(b *block) []SandboxCache {
	var out []SandboxCache
	seen := make(map[string]Range)
	for _, nested := range b.body.ofKind("cache") {
		if !s.wantLabels(nested, "name") {
			continue
		}
		s.nameLabel(nested, 0)
		s.allow(nested, cacheAttributes, nil)
		name := nested.labels[0]
		if first, taken := seen[name]; taken {
			s.errorf(nested.header, "Duplicate block", "There is a cache %q already, at %s.", name, first)
			continue
		}
		seen[name] = publicRange(nested.header)
		inner := s.within(nested)
		if _, given := nested.body.attributes["path"]; !given && !slices.Contains(KnownCaches, name) {
			s.errorf(nested.header, "Missing attribute", "A cache block needs the attribute \"path\", unless it is one of %s.%s",
				strings.Join(KnownCaches, ", "), s.didYouMean(name, KnownCaches))
		}
		path := inner.path("path", "")
		if path != "" && filepath.Dir(path) == path {
			s.errorf(nested.body.attributes["path"].expr.Range(), "Invalid value", "The whole file system cannot be a cache.")
		}
		out = append(out, SandboxCache{Name: name, Path: path, Env: inner.texts("env", checkEnvironmentName)})
	}
	return out
}
