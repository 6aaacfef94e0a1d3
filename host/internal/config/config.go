package config

import (
	"slices"
	"strings"
)

// LockFileName is the name of the file beside the configuration that records
// the checksums of plugins. It is never read as configuration, but a Watcher
// signals when it changes.
const LockFileName = "sop.lock.hcl"

// A Config is one valid configuration. It is immutable: whoever holds one may
// share it between goroutines and must not write to it or to anything it
// refers to. All paths in it are absolute and clean.
type Config struct {
	Path  string   // the file or directory that was loaded
	Dir   string   // the directory that holds the configuration; relative paths start here
	Files []string // the files that were read, in the order they were merged

	Host       Host
	Policy     Policy
	Tokens     map[string]TokenLimits // by type, all types
	Tasks      Tasks                  `json:",omitzero"`
	Rules      []Rule                 `json:",omitempty"` // the first that matches holds
	Workspaces []Workspace            // sorted by Name
	Plugins    []Plugin               // sorted by ID
	API        API
	Agents     []Agent   // sorted by Name
	OIDC       []OIDC    // sorted by Name
	Audit      Audit     `json:",omitzero"`
	Telemetry  Telemetry `json:",omitzero"`

	SandboxProfiles []SandboxProfile // sorted by Name
	Components      []Component      `json:",omitempty"` // sorted by Name
	Backups         []Backup         `json:",omitempty"` // sorted by Name

	Protocols   []Protocol  `json:",omitempty"` // sorted by Name; one for each enabled protocol plugin
	Maintenance Maintenance `json:",omitzero"`
	Hooks       []Hook      `json:",omitempty"` // sorted by Name

	sources map[string][]byte // for Problem
}

// Problem returns an error about a place in the configuration, with its source
// line: for what only shows when the configuration is put into effect.
func (c *Config) Problem(at Range, summary, detail string) Diagnostic {
	return Diagnostic{
		Severity: SeverityError, Summary: clean(summary), Detail: clean(detail), Range: at,
		Snippet: sourceLine(make(map[string][]string), c.sources, at.File, at.Line),
	}
}

// Plugin returns the plugin with the given id ("detector.docs"), or nil.
func (c *Config) Plugin(id string) *Plugin {
	i, found := slices.BinarySearchFunc(c.Plugins, id, func(p Plugin, id string) int {
		return strings.Compare(p.ID(), id)
	})
	if !found {
		return nil
	}
	return &c.Plugins[i]
}

// Workspace returns the workspace with the given name, or nil.
func (c *Config) Workspace(name string) *Workspace {
	i, found := slices.BinarySearchFunc(c.Workspaces, name, func(w Workspace, name string) int {
		return strings.Compare(w.Name, name)
	})
	if !found {
		return nil
	}
	return &c.Workspaces[i]
}
