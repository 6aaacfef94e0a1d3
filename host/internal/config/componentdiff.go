package config

import (
	"reflect"
	"slices"
)

func componentsByName(c *Config) map[string]*Component {
	out := make(map[string]*Component)
	if c != nil {
		for i := range c.Components {
			out[c.Components[i].Name] = &c.Components[i]
		}
	}
	return out
}

// diffComponents says what becomes of each component. A change of how it is
// watched is taken over in place; one of what runs takes a new process.
func diffComponents(old, next *Config) []Change {
	var changes []Change
	before, after := componentsByName(old), componentsByName(next)
	for _, name := range keysOfBoth(before, after) {
		changes = append(changes, diffComponent(name, before[name], after[name]))
	}
	return changes
}

func diffComponent(name string, old, next *Component) Change {
	change := Change{Object: ObjectComponent, ID: name}
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
		change.Action, change.Reasons = ActionUnchanged, nil
		process, around := componentProcess(old, next), componentAround(old, next)
		switch {
		case len(process) > 0:
			change.Action = ActionRestart
		case len(around) > 0:
			change.Action = ActionUpdate
		}
		change.Reasons = append(process, around...) //nolint:gocritic // a copy is meant
	}
	return change
}

// componentProcess says what differs that its process was started with.
func componentProcess(old, next *Component) reasons {
	var why reasons
	why.changed("command", old.Command != next.Command)
	why.changed("args", !slices.Equal(old.Args, next.Args))
	why.changed("dir", old.Dir != next.Dir)
	for _, name := range keysOfBoth(old.Env, next.Env) {
		why.presence("env."+name, has(old.Env, name), has(next.Env, name))
		why.changed("env."+name, has(old.Env, name) && has(next.Env, name) && old.Env[name] != next.Env[name])
	}
	why.changed("env_pass", !slices.Equal(old.EnvPass, next.EnvPass))
	why.changed("readiness", !reflect.DeepEqual(old.Readiness, next.Readiness))
	why.changed("survive", old.Survive != next.Survive)
	why.changed("sandbox_profile", old.SandboxProfile != next.SandboxProfile)
	if old.SandboxProfile != "" && old.SandboxProfile == next.SandboxProfile {
		why.changed("sandbox", !reflect.DeepEqual(old.view.profile, next.view.profile))
		why.changed("workspaces it sees", !slices.Equal(old.view.workspaces, next.view.workspaces))
	}
	why.changed("limits", old.Limits != next.Limits)
	return why
}

// componentAround says what differs in how it is treated.
func componentAround(old, next *Component) reasons {
	var why reasons
	why.changed("depends_on", !slices.Equal(old.DependsOn, next.DependsOn))
	why.changed("requires_ready", old.RequiresReady != next.RequiresReady)
	why.changed("start_timeout", old.StartTimeout != next.StartTimeout)
	why.changed("restart", old.RestartPolicy != next.RestartPolicy || old.Restart != next.Restart)
	why.changed("stop", old.StopSignal != next.StopSignal || old.StopGrace != next.StopGrace)
	why.changed("required", old.Required != next.Required)
	why.changed("activation", old.OnDemand != next.OnDemand)
	why.changed("idle_stop", old.IdleStop != next.IdleStop)
	return why
}
