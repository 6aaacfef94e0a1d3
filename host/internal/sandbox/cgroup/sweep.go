package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sweepWait bounds the end of one group that an earlier process left.
const sweepWait = 2 * time.Second

// sweep ends and removes what earlier trees of this name left, where this one
// would be made and where the record says that the last one was.
func (t *Tree) sweep(found []hierarchy) error {
	parents := t.recorded(found)
	for _, h := range found {
		for _, base := range []string{h.own, filepath.Dir(h.own)} {
			if p := filepath.Join(base, t.name); base != filepath.Dir(h.mount) && !slices.Contains(parents, p) {
				parents = append(parents, p)
			}
		}
	}
	left := make(map[string]*Group) // by name: v1 has one directory in each hierarchy
	for _, parent := range parents {
		dirs, err := subdirectories(parent)
		if err != nil {
			continue // there is none
		}
		for _, dir := range dirs {
			name := filepath.Base(dir)
			if left[name] == nil {
				left[name] = &Group{sys: t.sys, name: name, version: versionOf(found, parent)}
			}
			left[name].dirs = append(left[name].dirs, leftDir(found, dir))
		}
	}
	var failed []error
	for name, g := range left {
		if t.keep != nil && t.keep(name) {
			t.kept[name] = g
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), sweepWait)
		failed = append(failed, g.Kill(ctx), g.Remove())
		cancel()
	}
	for _, parent := range parents {
		if t.holdsKept(parent) {
			t.keptParents = append(t.keptParents, parent)
			continue
		}
		if err := t.sys.rmdir(parent); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("remove cgroups that an earlier process left: %w", err)
	}
	return nil
}

// EndRecorded kills what is in the cgroups that the record of another process's
// tree names, and returns how many processes there were. The groups are left to
// whoever made them.
func EndRecorded(ctx context.Context, record string) (int, error) {
	sys := kernel()
	found, _, err := discover(sys.proc)
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(record)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	killed := make(map[int]bool)
	var failed []error
	for path := range strings.Lines(string(data)) {
		path = filepath.Clean(strings.TrimSuffix(path, "\n"))
		if _, ok := hierarchyOf(found, path); !ok || !strings.HasPrefix(filepath.Base(path), treePrefix) {
			continue // not one of ours
		}
		g := &Group{sys: sys, name: filepath.Base(path), version: versionOf(found, path), dirs: []groupDir{{path: path}}}
		pids, err := g.processes()
		for pid := range pids {
			killed[pid] = true
		}
		failed = append(failed, ignoreGone(err), g.Kill(ctx))
	}
	return len(killed), errors.Join(failed...)
}

// holdsKept says whether a kept group is in parent.
func (t *Tree) holdsKept(parent string) bool {
	for _, g := range t.kept {
		if slices.ContainsFunc(g.dirs, func(d groupDir) bool { return filepath.Dir(d.path) == parent }) {
			return true
		}
	}
	return false
}

// hierarchyOf returns the one that a path lies in.
func hierarchyOf(found []hierarchy, path string) (hierarchy, bool) {
	i := slices.IndexFunc(found, func(h hierarchy) bool { return strings.HasPrefix(path, h.mount+"/") })
	if i < 0 {
		return hierarchy{}, false
	}
	return found[i], true
}

func versionOf(found []hierarchy, path string) Version {
	if h, ok := hierarchyOf(found, path); ok && h.v2 {
		return V2
	}
	return V1
}

// leftDir is a directory of a group that an earlier process made.
func leftDir(found []hierarchy, path string) groupDir {
	h, _ := hierarchyOf(found, path)
	d := groupDir{path: path, own: h.own, controllers: h.controllers}
	if h.v2 {
		offered, _ := os.ReadFile(filepath.Join(path, "cgroup.controllers")) // none are read as such
		d.controllers = strings.Fields(string(offered))
	}
	return d
}

// recorded returns the parents that the record names: cgroups of this tree's
// name, and nothing else.
func (t *Tree) recorded(found []hierarchy) []string {
	if t.record == "" {
		return nil
	}
	data, err := os.ReadFile(t.record)
	if err != nil {
		return nil // there was none
	}
	var parents []string
	for path := range strings.Lines(string(data)) {
		path = filepath.Clean(strings.TrimSuffix(path, "\n"))
		mounted := slices.ContainsFunc(found, func(h hierarchy) bool { return strings.HasPrefix(path, h.mount+"/") })
		if mounted && filepath.Base(path) == t.name {
			parents = append(parents, path)
		}
	}
	return parents
}

// writeRecord writes where the tree is.
func (t *Tree) writeRecord() error {
	if t.record == "" || len(t.hierarchies) == 0 {
		return nil
	}
	var text strings.Builder
	for _, h := range t.hierarchies {
		text.WriteString(filepath.Join(h.base, t.name) + "\n")
	}
	for _, parent := range t.keptParents {
		if !strings.Contains(text.String(), parent+"\n") {
			text.WriteString(parent + "\n")
		}
	}
	if old, err := os.ReadFile(t.record); err == nil && string(old) == text.String() {
		return nil
	}
	return os.WriteFile(t.record, []byte(text.String()), 0o600)
}
