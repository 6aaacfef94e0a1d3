package startup

import (
	"os"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/sandbox"
)

// configuredCaches are the caches of a profile, with what the configuration
// leaves to the names of common tools.
func configuredCaches(caches []config.SandboxCache) []sandbox.Cache {
	home, _ := os.UserHomeDir() // a service may have none, and has no caches there then
	var out []sandbox.Cache
	for _, c := range caches {
		cache, known := sandbox.KnownCache(c.Name, home, os.LookupEnv)
		if !known {
			cache.Name = c.Name
		}
		if c.Path != "" {
			cache.Path = c.Path
		}
		cache.Env = append(cache.Env, c.Env...)
		out = append(out, cache)
	}
	return out
}
