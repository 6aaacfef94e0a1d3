package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// prepareV2 makes the tree's cgroup in the unified hierarchy, with as many
// controllers as can be had.
//
// A cgroup that hands controllers to those beneath it must hold no process
// itself, unless it is the root of all. So the tree gets controllers where this
// process runs in the root, or in a cgroup of a delegated one (systemd:
// Delegate=yes with DelegateSubgroup=). Elsewhere it is made beneath the
// process's own cgroup, without controllers: what runs in it can be ended as
// one, and not limited.
func (t *Tree) prepareV2(found []hierarchy, reasons map[string]error) (*candidate, error) {
	i := slices.IndexFunc(found, func(h hierarchy) bool { return h.v2 })
	if i < 0 {
		return nil, reasons[""]
	}
	h := found[i]
	c := &candidate{version: V2}
	h.base, c.missing = t.enable(h)
	h.controllers = nil
	for _, r := range Resources() {
		if c.missing[r] == nil {
			h.controllers = append(h.controllers, string(r))
		}
	}
	if err := t.prepare(V2, h); err != nil {
		return nil, fmt.Errorf("cgroup v2: %w", err)
	}
	c.hierarchies = []hierarchy{h}
	if len(h.controllers) == 0 {
		return c, nil
	}
	// The parent passes on what it was given.
	for _, r := range Resources() {
		if c.missing[r] != nil {
			continue
		}
		if err := enableIn(filepath.Join(h.base, t.name), string(r)); err != nil {
			c.missing[r] = err
		}
	}
	c.hierarchies[0].controllers = slices.DeleteFunc(h.controllers, func(name string) bool { return c.missing[Resource(name)] != nil })
	return c, nil
}

// enable finds the cgroup to build in and makes it hand out controllers.
// missing says which it does not hand out and why.
func (t *Tree) enable(h hierarchy) (base string, missing map[Resource]error) {
	missing = make(map[Resource]error)
	base = h.own
	above := filepath.Dir(h.own)
	switch {
	case isRoot(h.own):
	case h.own != h.mount && t.sys.delegated(above):
		base = above
	default:
		for _, r := range Resources() {
			missing[r] = fmt.Errorf("%s holds this process, and a v2 cgroup that holds processes has no controllers to give: "+
				"run it in a cgroup beneath a delegated one (systemd: Delegate=yes and DelegateSubgroup=host)", h.own)
		}
		return base, missing
	}
	offered, err := os.ReadFile(filepath.Join(base, "cgroup.controllers"))
	names := strings.Fields(string(offered))
	for _, r := range Resources() {
		switch {
		case err != nil:
			missing[r] = err
		case !slices.Contains(names, string(r)):
			missing[r] = fmt.Errorf("%s does not offer the %s controller", filepath.Join(base, "cgroup.controllers"), r)
		default:
			if err := enableIn(base, string(r)); err != nil {
				missing[r] = err
			}
		}
	}
	return base, missing
}

// isRoot says whether dir is the root of all cgroups, and not only that of a
// namespace: it alone has no type.
func isRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, os.ErrNotExist)
}

// enableIn lets the cgroups beneath dir have a controller.
func enableIn(dir, controller string) error {
	path := filepath.Join(dir, "cgroup.subtree_control")
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(string(have)), controller) {
		return nil
	}
	return write(path, "+"+controller)
}
