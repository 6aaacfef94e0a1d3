package scaffold

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// What is read of a tree.
const (
	maxFiles    = 200_000
	maxFileSize = 4 << 20 // bytes
)

// ErrTooLarge is what reading a file over the limit wraps.
var ErrTooLarge = errors.New("too large")

// Tree is what a scaffold sees of a workspace. Paths are relative to it, with
// slashes.
type Tree interface {
	// Files are the regular files, sorted by path. Do not modify it.
	Files() []string
	// Read returns the content of a file; its error wraps [fs.ErrNotExist] where
	// there is none.
	Read(name string) ([]byte, error)
}

// leftOut are directories that hold nothing of the workspace's own.
var leftOut = []string{".git", "node_modules", "vendor", "__pycache__", ".venv"}

// DirTree is the tree beneath a directory, listed once.
type DirTree struct {
	root  *os.Root
	files []string
}

// NewDirTree lists what is beneath root, without what version control and
// package managers keep there, and without following links. The tree reads
// through root and does not close it.
func NewDirTree(root *os.Root) (*DirTree, error) {
	t := &DirTree{root: root}
	err := fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil: // a directory that may not be read, or has gone
			return nil //nolint:nilerr // what cannot be listed is not there for a scaffold
		case entry.IsDir() && slices.Contains(leftOut, entry.Name()):
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		case len(t.files) == maxFiles:
			return fmt.Errorf("the workspace holds more than %d files", maxFiles)
		}
		t.files = append(t.files, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the workspace: %w", err)
	}
	slices.Sort(t.files)
	return t, nil
}

// Files implements [Tree].
func (t *DirTree) Files() []string { return t.files }

// Read implements [Tree].
func (t *DirTree) Read(name string) ([]byte, error) {
	f, err := t.root.OpenFile(name, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, err
	}
	content, err := readRegular(f)
	return content, errors.Join(err, f.Close())
}

// readRegular reads f to its end if it is a regular file within the limit.
func readRegular(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", f.Name())
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileSize {
		return nil, fmt.Errorf("%s: %w: the limit is %d bytes", f.Name(), ErrTooLarge, maxFileSize)
	}
	return content, nil
}

// MapTree is a tree in memory.
type MapTree map[string][]byte

// Files implements [Tree].
func (t MapTree) Files() []string {
	files := make([]string, 0, len(t))
	for name := range t {
		files = append(files, name)
	}
	slices.Sort(files)
	return files
}

// Read implements [Tree].
func (t MapTree) Read(name string) ([]byte, error) {
	content, ok := t[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return content, nil
}

// patched is a tree with changes made to it.
type patched struct {
	Tree
	changes []Change
	files   []string
}

func newPatched(t Tree, changes []Change) *patched {
	p := &patched{Tree: t, changes: changes, files: t.Files()}
	for _, c := range changes {
		if i, ok := slices.BinarySearch(p.files, c.Path); !ok {
			p.files = slices.Insert(slices.Clone(p.files), i, c.Path)
		}
	}
	return p
}

// Files implements [Tree].
func (p *patched) Files() []string { return p.files }

// Read implements [Tree].
func (p *patched) Read(name string) ([]byte, error) {
	for _, c := range p.changes {
		if c.Path == name {
			return c.Content, nil
		}
	}
	return p.Tree.Read(name)
}

// has says whether there is a file at name.
func has(t Tree, name string) bool {
	_, ok := slices.BinarySearch(t.Files(), name)
	return ok
}

// isDir says whether there is a file beneath name.
func isDir(t Tree, name string) bool {
	if name == "." {
		return true
	}
	files := t.Files()
	i, _ := slices.BinarySearch(files, name+"/")
	return i < len(files) && strings.HasPrefix(files[i], name+"/")
}

// beside lists the files directly in dir, by their base names, sorted.
func beside(t Tree, dir string) []string {
	var names []string
	for _, name := range beneath(t, dir) {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	return names
}

// beneath lists the files in dir and below it.
func beneath(t Tree, dir string) []string {
	files := t.Files()
	if dir == "." {
		return files
	}
	from, _ := slices.BinarySearch(files, dir+"/")
	end := from
	for end < len(files) && strings.HasPrefix(files[end], dir+"/") {
		end++
	}
	return files[from:end]
}
