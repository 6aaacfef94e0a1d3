package workspace

import "strings"

// Changes are the paths that differ between two manifests, each list sorted.
type Changes struct {
	Added    []string
	Modified []string
	Removed  []string
}

// Empty reports whether nothing changed.
func (c Changes) Empty() bool {
	return len(c.Added) == 0 && len(c.Modified) == 0 && len(c.Removed) == 0
}

// Compare says what changed from old to now, two manifests of the same root; with a nil old everything is added.
//
// A file is modified when its size, modification time, change time or inode differ, and also when they do not but the
// file is racily clean: touched so shortly before or during the old walk that a later write could carry the same
// times. It is then reported once more than needed rather than once too little. A path that now does not cover is
// never removed; compare the walk after that with Baseline(old, now), or its removal goes unnoticed.
func Compare(old, now *Manifest) Changes {
	var c Changes
	var before []File
	if old != nil {
		before = old.Files
	}
	after := now.Files
	for len(before) > 0 || len(after) > 0 {
		switch order := compareHeads(before, after); {
		case order < 0:
			if path := before[0].Path; now.Covers(path) {
				c.Removed = append(c.Removed, path)
			}
			before = before[1:]
		case order > 0:
			c.Added = append(c.Added, after[0].Path)
			after = after[1:]
		default:
			if !before[0].sameAs(&after[0]) || old.racy(&before[0]) {
				c.Modified = append(c.Modified, after[0].Path)
			}
			before, after = before[1:], after[1:]
		}
	}
	return c
}

// compareHeads orders the first files of two lists, of which at least one is not empty, by path.
func compareHeads(a, b []File) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	case a[0].Path == b[0].Path:
		return 0
	default:
		return strings.Compare(a[0].Path, b[0].Path)
	}
}

// Baseline is the manifest to compare the next walk with. It is now itself when now covers everything. Otherwise it
// also lists the files of old that now does not cover, with a CTime of 0, so that a later walk reports them as removed
// or, seeing them again, as modified. It is for Compare only: the files carried over may not be there.
func Baseline(old, now *Manifest) *Manifest {
	if old == nil || len(now.Incomplete) == 0 {
		return now
	}
	merged := *now
	merged.Files = make([]File, 0, max(len(old.Files), len(now.Files)))
	before, after := old.Files, now.Files
	for len(before) > 0 || len(after) > 0 {
		order := compareHeads(before, after)
		if order >= 0 {
			merged.Files = append(merged.Files, after[0])
			after = after[1:]
		} else if !now.Covers(before[0].Path) {
			carried := before[0]
			carried.CTime = 0
			merged.Files = append(merged.Files, carried)
		}
		if order <= 0 {
			before = before[1:]
		}
	}
	merged.Revision = merged.revision()
	return &merged
}
