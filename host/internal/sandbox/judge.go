package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
)

// Judge holds changes that no run has made, such as an agent's, to what holds for
// those of runs: it puts them in order, and rejects names, clashes of names and
// links that a run is not let through with. What it returns is only that it could
// not look.
func (s *ChangeSet) Judge(workspace *os.Root) error {
	s.sort()
	w := differ{set: s, links: make(map[string]string), gone: make(map[string]bool), last: make(map[string]Op)}
	names := make(map[string][]string) // that are changed, by directory
	for i := range s.Changes {
		c := &s.Changes[i]
		if why := badPath(c.Path); why != "" {
			s.reject(c.Path, "%s", why)
		}
		if w.new(c.Path) {
			s.reject(c.Path, "it cannot be two things at once")
		}
		if w.gone[c.Path] = true; c.Op == OpSymlink {
			w.links[c.Path] = c.Target
		}
		w.last[c.Path] = c.Op
		names[path.Dir(c.Path)] = append(names[path.Dir(c.Path)], path.Base(c.Path))
	}
	for dir, changed := range names {
		if !w.hasNew(dir, changed) {
			continue
		}
		below, err := namesIn(workspace, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		slices.Sort(changed)
		w.clashes(dir, slices.Compact(changed), below, false)
	}
	w.checkLinks(workspace)
	return nil
}

// namesIn lists a directory; one that is not there has no names.
func namesIn(root *os.Root, dir string) (_ []string, err error) {
	file, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return file.Readdirnames(-1)
}
