package detector

import (
	"cmp"
	"slices"
	"strings"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// manifest is the list of files of a workspace at a revision, with what the
// detector kept beside it.
type manifest struct {
	revision string
	files    []File // sorted by path
	kept     map[string]any
}

// change is what the host sent for one scan.
type change struct {
	changed []File
	removed []string
}

// add takes one batch in.
func (c *change) add(batch *pluginv1.ScanFiles) {
	for _, f := range batch.GetChanged() {
		c.changed = append(c.changed, File{
			Path: f.GetPath(), Size: f.GetSize(), ModTime: f.GetModifiedUnixNano(), Testdata: f.GetTestdata(),
		})
	}
	c.removed = append(c.removed, batch.GetRemoved()...)
}

// sort orders both lists by path.
func (c *change) sort() {
	slices.SortFunc(c.changed, byPath)
	slices.Sort(c.removed)
}

func byPath(a, b File) int { return cmp.Compare(a.Path, b.Path) }

// apply returns base with c applied: linear in both. c must be sorted.
func apply(base []File, c *change) []File {
	out := make([]File, 0, len(base)+len(c.changed))
	changed, removed := c.changed, c.removed
	for _, f := range base {
		for len(changed) > 0 && changed[0].Path < f.Path {
			out = append(out, changed[0])
			changed = changed[1:]
		}
		for len(removed) > 0 && removed[0] < f.Path {
			removed = removed[1:]
		}
		switch {
		case len(changed) > 0 && changed[0].Path == f.Path:
			out = append(out, changed[0])
			changed = changed[1:]
		case len(removed) > 0 && removed[0] == f.Path:
		default:
			out = append(out, f)
		}
	}
	return append(out, changed...)
}

// find returns the position of path in files, which are sorted.
func find(files []File, path string) (int, bool) {
	return slices.BinarySearchFunc(files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
}

// hasDir says whether some file lies beneath dir.
func hasDir(files []File, dir string) bool {
	if dir == "." || dir == "" {
		return len(files) > 0
	}
	prefix := strings.TrimSuffix(dir, "/") + "/"
	i, _ := find(files, prefix)
	return i < len(files) && strings.HasPrefix(files[i].Path, prefix)
}
