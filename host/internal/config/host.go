package config

import "time"

// Host holds the settings of the resident process itself.
type Host struct {
	DataDir        string        // absolute; the directory for state, logs and backups
	LogLevel       string        // trace, debug, info, warn or error
	ReloadDebounce time.Duration // how long the files must be quiet before a reload
	DrainTimeout   time.Duration // how long a retired generation may finish its calls
	Source         Range         // the host block; zero when there is none
	DataDirSource  Range         // the attribute, or else the block
}

var logLevels = []string{"trace", "debug", "info", "warn", "error"}

var (
	hostAttributes = []string{"data_dir", "log_level", "reload_debounce", "drain_timeout"}

	debounceBounds = bounds{low: time.Millisecond, high: time.Minute}
	drainBounds    = bounds{low: time.Millisecond, high: 24 * time.Hour}
)

const defaultDataDir = ".sop" // in the directory of the configuration

// readHost reads the host block; b is nil when there is none.
func readHost(r *reporter, b *block, dir string) Host {
	s := section{reporter: r, dir: dir}.within(b)
	if b != nil {
		r.wantLabels(b)
		r.allow(b, hostAttributes, nil)
	}
	host := Host{
		DataDir:        s.path("data_dir", absolutePath(dir, defaultDataDir)),
		LogLevel:       s.choice("log_level", "info", logLevels),
		ReloadDebounce: s.duration("reload_debounce", 200*time.Millisecond, debounceBounds),
		DrainTimeout:   s.duration("drain_timeout", 30*time.Second, drainBounds),
	}
	if b != nil {
		host.Source = publicRange(b.header)
		host.DataDirSource = b.attributeRange("data_dir")
	}
	return host
}
