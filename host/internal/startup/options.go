package startup

import (
	"io"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// Options say how to run the host.
type Options struct {
	// ConfigPath names the configuration: a file, or a directory of *.hcl.
	ConfigPath string
	// PluginsDir holds the bundled plugins; it is ${path.plugins}.
	PluginsDir string
	// Version of this build.
	Version string
	// LogWriter also receives the host's log, which is written to
	// data_dir/logs/host.log; nil means only there.
	LogWriter io.Writer
	// OnStep is called for each step of the activation timeline, in order, from
	// one goroutine at a time. nil is fine.
	OnStep func(Step)
	// OnScan is called when a scan that the host began by itself has ended.
	OnScan func(*apiv1.WorkspaceStatus)

	traceEvery  time.Duration // how often spans are exported; 0: what suits
	socketEvery time.Duration // how often is looked for the socket; likewise
}

// Step is one line of the activation timeline.
type Step struct {
	// Since the host began to start.
	Elapsed time.Duration
	// Component is "host", "config", "store", "api", "plugin detector.docs",
	// "workspace main" …
	Component string
	// Phase is "starting", "ready", "failed" … or what a plugin is doing.
	Phase string
	// Detail is one sentence, or empty.
	Detail string
	// Remedy says what to do where Phase is "failed"; may be empty.
	Remedy string
	// Instance counts the starts of a component; 0 where there is one only.
	Instance int
	// After names the components that it waits for; set where it is queued.
	After []string
}

// ScanOptions say what to scan without a host.
type ScanOptions struct {
	// Path of the workspace.
	Path       string
	PluginsDir string
	Version    string
	// LogWriter receives the log of the plugins; nil discards it.
	LogWriter io.Writer
	// Exclude holds gitignore-style patterns.
	Exclude []string
	// Timeout bounds the scan; 0 means 15 minutes.
	Timeout time.Duration
}

// ScanOutcome is what one scan without a host found.
type ScanOutcome struct {
	Gaps  []*apiv1.GapRecord
	Scan  *apiv1.ScanReport
	Rules []Rule
}

// Rule is one rule that was applied.
type Rule struct {
	ID, Version, Summary, HelpURI string
	// Type and Severity as in a gap's JSON form.
	Type, Severity string
	Detector       string
}

// LockChange is what [Lock] did for one plugin.
type LockChange struct {
	ID string
	// Action is "added", "updated", "unchanged" or "removed".
	Action string
	// Version and Hash that stand in the lock file now; OldHash what stood
	// there before.
	Version, Hash, OldHash string
}
