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
				left[name] = &Group{sys: t.sys, name: name}
			}
			left[name].dirs = append(left[name].dirs, groupDir{path: dir})
		}
	}
	var failed []error
	for _, g := range left {
		ctx, cancel := context.WithTimeout(context.Background(), sweepWait)
		failed = append(failed, g.Kill(ctx), g.Remove())
		cancel()
	}
	for _, parent := range parents {
		if err := t.sys.rmdir(parent); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("remove cgroups that an earlier process left: %w", err)
	}
	return nil
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
	if old, err := os.ReadFile(t.record); err == nil && string(old) == text.String() {
		return nil
	}
	return os.WriteFile(t.record, []byte(text.String()), 0o600)
}
