package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// An Action is what a change asks of the host.
type Action string

// The actions.
const (
	ActionStart     Action = "start"     // bring up what was not there or was disabled
	ActionStop      Action = "stop"      // take down what is gone or is disabled now
	ActionRestart   Action = "restart"   // bring up anew; of the host, it needs the process to restart
	ActionUpdate    Action = "update"    // take over new settings in place
	ActionUnchanged Action = "unchanged" // leave alone
)

// An Object is the sort of thing a change is about.
type Object string

// The objects.
const (
	ObjectHost      Object = "host"
	ObjectPolicy    Object = "policy" // compared by whoever loads them: Diff does not read them
	ObjectWorkspace Object = "workspace"
	ObjectPlugin    Object = "plugin"
	ObjectComponent Object = "component"
	ObjectBackup    Object = "backup"
	ObjectTelemetry Object = "telemetry"
)

// A Change is what becomes of one thing. Reasons name the settings that
// differ and never hold a configured value, since it may be secret.
type Change struct {
	Object  Object   `json:"object"`
	ID      string   `json:"id,omitempty"` // a workspace's name or a plugin's id; empty for the host
	Action  Action   `json:"action"`
	Reasons []string `json:"reasons,omitempty"`
}

// String returns the change as "restart plugin detector.docs: args changed".
func (c Change) String() string {
	text := string(c.Action) + " " + string(c.Object)
	if c.ID != "" {
		text += " " + c.ID
	}
	if len(c.Reasons) > 0 {
		text += ": " + strings.Join(c.Reasons, ", ")
	}
	return text
}

// Diff returns what has to change to get from old to next: the host first, then
// workspaces, plugins and who may call, each sorted by id, those without a change
// included. Either Config may be nil for one that has nothing.
//
// The identity of a plugin, such as the locked hash of its binary, is compared
// too. The function is given plugins of both old and next and must tell them
// apart by pointer if it answers from more than what they hold; nil stands for
// no identity.
func Diff(old, next *Config, identity func(*Plugin) string) []Change {
	if identity == nil {
		identity = func(*Plugin) string { return "" }
	}
	var changes []Change
	if change, ok := diffHost(old, next); ok {
		changes = append(changes, change)
	}
	if change, ok := diffTelemetry(old, next); ok {
		changes = append(changes, change)
	}
	changes = append(changes, diffAudit(old, next)...)
	before, after := workspacesByName(old), workspacesByName(next)
	for _, name := range keysOfBoth(before, after) {
		changes = append(changes, diffWorkspace(name, before[name], after[name]))
	}
	from, to := pluginsByID(old), pluginsByID(next)
	for _, id := range keysOfBoth(from, to) {
		changes = append(changes, diffPlugin(id, from[id], to[id], identity))
	}
	changes = append(changes, diffComponents(old, next)...)
	changes = append(changes, diffProtocols(old, next)...)
	changes = append(changes, diffBackups(old, next)...)
	return append(changes, diffIdentities(old, next)...)
}

func workspacesByName(c *Config) map[string]*Workspace {
	out := make(map[string]*Workspace)
	if c != nil {
		for i := range c.Workspaces {
			out[c.Workspaces[i].Name] = &c.Workspaces[i]
		}
	}
	return out
}

func pluginsByID(c *Config) map[string]*Plugin {
	out := make(map[string]*Plugin)
	if c != nil {
		for i := range c.Plugins {
			out[c.Plugins[i].ID()] = &c.Plugins[i]
		}
	}
	return out
}

func keysOfBoth[V any](a, b map[string]V) []string {
	all := make(map[string]V, len(a)+len(b))
	maps.Copy(all, a)
	maps.Copy(all, b)
	return sortedKeys(all)
}

// reasons collects what differs.
type reasons []string

func (r *reasons) changed(name string, differs bool) {
	if differs {
		*r = append(*r, name+" changed")
	}
}

func diffHost(old, next *Config) (Change, bool) {
	if old == nil || next == nil {
		return Change{}, false
	}
	var why reasons
	why.changed("data_dir", old.Host.DataDir != next.Host.DataDir)
	action := ActionUpdate
	if len(why) > 0 {
		action = ActionRestart
	}
	why.changed("log_level", old.Host.LogLevel != next.Host.LogLevel)
	why.changed("reload_debounce", old.Host.ReloadDebounce != next.Host.ReloadDebounce)
	why.changed("drain_timeout", old.Host.DrainTimeout != next.Host.DrainTimeout)
	why.changed("api limits", old.API.Limits != next.API.Limits)
	why.tokenLimits(old.Tokens, next.Tokens)
	why.tasks(old, next)
	why.changed("maintenance", old.Maintenance.Owner != next.Maintenance.Owner || !slices.Equal(old.Maintenance.Owners, next.Maintenance.Owners) ||
		!maps.Equal(old.Maintenance.Operations, next.Maintenance.Operations))
	why.changed("pressure", old.Maintenance.Pressure != next.Maintenance.Pressure)
	why.changed("hooks", !slices.EqualFunc(old.Hooks, next.Hooks, Hook.same))
	if len(why) == 0 {
		action = ActionUnchanged
	}
	return Change{Object: ObjectHost, Action: action, Reasons: why}, true
}

func diffWorkspace(name string, old, next *Workspace) Change {
	change := Change{Object: ObjectWorkspace, ID: name}
	switch {
	case old == nil:
		change.Action, change.Reasons = ActionStart, []string{"added"}
		return change
	case next == nil:
		change.Action, change.Reasons = ActionStop, []string{"removed"}
		return change
	}
	var why reasons
	why.changed("path", old.Path != next.Path)
	why.changed("scan.on_start", old.Scan.OnStart != next.Scan.OnStart)
	why.changed("scan.interval", old.Scan.Interval != next.Scan.Interval)
	why.changed("scan.timeout", old.Scan.Timeout != next.Scan.Timeout)
	why.changed("scan.exclude", !slices.Equal(old.Scan.Exclude, next.Scan.Exclude))
	why.changed("scan.max_file_size", old.Scan.MaxFileSize != next.Scan.MaxFileSize)
	why.changed("verify", !sameSteps(old.Verify, next.Verify))
	why.changed("protect", !slices.Equal(old.Protect, next.Protect))
	why.changed("integration", old.Integration != next.Integration)
	change.Reasons = why
	switch {
	case len(why) == 0:
		change.Action = ActionUnchanged
	case old.Path != next.Path:
		change.Action = ActionRestart
	default:
		change.Action = ActionUpdate
	}
	return change
}

func diffPlugin(id string, old, next *Plugin, identity func(*Plugin) string) Change {
	change := Change{Object: ObjectPlugin, ID: id}
	was, is := old != nil && old.Enabled, next != nil && next.Enabled
	switch {
	case !was && !is:
		change.Action, change.Reasons = ActionUnchanged, []string{"disabled"}
	case !was && old == nil:
		change.Action, change.Reasons = ActionStart, []string{"added"}
	case !was:
		change.Action, change.Reasons = ActionStart, []string{"enabled"}
	case next == nil:
		change.Action, change.Reasons = ActionStop, []string{"removed"}
	case !is:
		change.Action, change.Reasons = ActionStop, []string{"disabled"}
	default:
		why := diffSettings(old, next)
		why.changed("binary", identity(old) != identity(next))
		change.Action, change.Reasons = ActionRestart, why
		if len(why) == 0 {
			change.Action = ActionUnchanged
		}
	}
	return change
}

func diffSettings(old, next *Plugin) reasons {
	var why reasons
	why.changed("command", old.Command != next.Command)
	why.changed("args", !slices.Equal(old.Args, next.Args))
	for _, name := range keysOfBoth(old.Env, next.Env) {
		why.presence("env."+name, has(old.Env, name), has(next.Env, name))
		why.changed("env."+name, has(old.Env, name) && has(next.Env, name) && old.Env[name] != next.Env[name])
	}
	why.changed("env_pass", !slices.Equal(old.EnvPass, next.EnvPass))
	why.changed("start_timeout", old.StartTimeout != next.StartTimeout)
	why.changed("call_timeout", old.CallTimeout != next.CallTimeout)
	why.changed("stop_grace", old.StopGrace != next.StopGrace)
	why.changed("restart.backoff_min", old.Restart.BackoffMin != next.Restart.BackoffMin)
	why.changed("restart.backoff_max", old.Restart.BackoffMax != next.Restart.BackoffMax)
	why.changed("restart.breaker_failures", old.Restart.BreakerFailures != next.Restart.BreakerFailures)
	why.changed("restart.breaker_window", old.Restart.BreakerWindow != next.Restart.BreakerWindow)
	why.changed("sandbox_profile", old.SandboxProfile != next.SandboxProfile)
	if old.SandboxProfile != "" && old.SandboxProfile == next.SandboxProfile {
		why.changed("sandbox", !reflect.DeepEqual(old.view.profile, next.view.profile))
		why.changed("workspaces it sees", !slices.Equal(old.view.workspaces, next.view.workspaces))
	}
	why.changed("limits.memory", old.Limits.Memory != next.Limits.Memory)
	why.changed("limits.pids", old.Limits.PIDs != next.Limits.PIDs)
	why.changed("limits.cpus", old.Limits.CPUs != next.Limits.CPUs)
	why.blocks("config", old.config, next.config)
	return why
}

func has(m map[string]string, name string) bool {
	_, ok := m[name]
	return ok
}

// presence adds a reason when something was added or removed.
func (r *reasons) presence(name string, was, is bool) {
	switch {
	case is && !was:
		*r = append(*r, name+" added")
	case was && !is:
		*r = append(*r, name+" removed")
	}
}

// blocks compares two blocks attribute by attribute. Either may be nil.
// Whether a config block is absent or empty makes no difference to a plugin.
func (r *reasons) blocks(name string, old, next *block) {
	before, after := bodyOf(old), bodyOf(next)
	for _, key := range keysOfBoth(before.attributes, after.attributes) {
		was, is := before.attributes[key], after.attributes[key]
		r.presence(name+"."+key, was != nil, is != nil)
		r.changed(name+"."+key, was != nil && is != nil && !was.value.RawEquals(is.value))
	}
	from, to := nestedByName(before), nestedByName(after)
	for _, key := range keysOfBoth(from, to) {
		was, is := from[key], to[key]
		if was == nil || is == nil {
			r.presence(name+"."+key, was != nil, is != nil)
			continue
		}
		r.blocks(name+"."+key, was, is)
	}
}

func bodyOf(b *block) *body {
	if b == nil {
		return &body{attributes: map[string]*attribute{}}
	}
	return b.body
}

// nestedByName names each nested block by type, labels and, from the second of
// its name on, a number.
func nestedByName(b *body) map[string]*block {
	out := make(map[string]*block)
	count := make(map[string]int)
	for _, nested := range b.blocks {
		name := nested.kind
		for _, label := range nested.labels {
			name += fmt.Sprintf("[%q]", label)
		}
		count[name]++
		if n := count[name]; n > 1 {
			name += fmt.Sprintf("[%d]", n-1)
		}
		out[name] = nested
	}
	return out
}
