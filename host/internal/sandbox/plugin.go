package sandbox

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// PluginPlan is how a plugin is isolated under a profile: it may read and
// execute the system's programs, what the profile adds and the workspaces. Who
// starts it adds arguments, environment and what it may write to. At
// [LevelNone] there is none. The profile's limits are those of runs.
func PluginPlan(profile Profile, workspaces []string) (*launch.Plan, error) {
	if err := profile.Validate(); err != nil {
		return nil, err
	}
	if profile.Level == LevelNone {
		return nil, nil //nolint:nilnil // there is no plan, and nothing is wrong
	}
	p := &launch.Plan{Level: string(profile.Level)}
	identify(p)
	p.UIDMap, p.GIDMap = nil, nil // it keeps its ids
	if p.Root {
		p.UID, p.GID = 0, 0
	}
	if err := addSystem(p); err != nil {
		return nil, err
	}
	if err := addReadOnly(p, profile.ReadOnly); err != nil {
		return nil, err
	}
	for _, w := range workspaces {
		if err := addWorkspace(p, w); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(p.Files, func(a, b launch.File) int { return cmp.Compare(a.Target, b.Target) }) // equal plans are the same bytes
	return p, nil
}

// addWorkspace shows a workspace by its name and by its true path. It may
// appear later, for the next generation.
func addWorkspace(p *launch.Plan, path string) error {
	names := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		names = append(names, real)
	}
	for _, name := range names {
		if slices.Contains(closedTrees, name) && name != launch.WorkspaceDir {
			return fmt.Errorf("the workspace %s cannot be shown to a plugin", name)
		}
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: name}, Target: name, Optional: true})
	}
	return nil
}
