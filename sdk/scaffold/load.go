package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// FileName is that of a scaffold in its directory; its examples lie beside it
// as *.txtar.
const FileName = "scaffold.tmpl"

// maxScaffolds bounds a directory of them.
const maxScaffolds = 256

//go:embed bundled
var bundledFiles embed.FS

// Set is scaffolds by name.
type Set struct {
	list  []*Scaffold // sorted by name
	notes []string
}

// bundled parses what is embedded once; it is never modified.
var bundled = sync.OnceValues(func() (*Set, error) {
	sub, err := fs.Sub(bundledFiles, "bundled")
	if err != nil {
		return nil, err
	}
	set := &Set{}
	return set, set.load(sub, "bundled")
})

// Bundled returns the scaffolds that come with the program.
func Bundled() (*Set, error) { return bundled() }

// Load returns the bundled scaffolds with those in dir, one directory each;
// where names are equal, that in dir is taken and a note says so. An empty dir
// is none. All that is wrong in dir is in the error.
func Load(dir string) (*Set, error) {
	base, err := bundled()
	if err != nil || dir == "" {
		return base, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("scaffolds: %w", err)
	}
	set := &Set{list: slices.Clone(base.list)}
	err = set.load(root.FS(), dir)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	return set, nil
}

// LoadDir reads the one scaffold in dir, with its examples.
func LoadDir(dir string) (*Scaffold, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	s, err := loadDir(root.FS(), dir)
	return s, errors.Join(err, root.Close())
}

func loadDir(files fs.FS, dir string) (*Scaffold, error) {
	content, err := readBounded(files, FileName)
	if err != nil {
		return nil, fmt.Errorf("scaffold in %s: %w", dir, err)
	}
	s, err := Parse(filepath.Join(dir, FileName), content)
	if err != nil {
		return nil, err
	}
	s.Examples, err = loadExamples(files, ".")
	return s, err
}

// load adds the scaffolds of every directory in files; from is what they are
// called in messages.
func (s *Set) load(files fs.FS, from string) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("scaffolds: %w", err)
	}
	if len(entries) > maxScaffolds {
		return fmt.Errorf("scaffolds: %s holds more than %d entries", from, maxScaffolds)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		errs = append(errs, s.loadOne(files, from, e.Name()))
	}
	return errors.Join(errs...)
}

func (s *Set) loadOne(files fs.FS, from, name string) error {
	file := path.Join(name, FileName)
	content, err := readBounded(files, file)
	if errors.Is(err, fs.ErrNotExist) {
		s.notes = append(s.notes, fmt.Sprintf("%s holds no %s", path.Join(from, name), FileName))
		return nil
	}
	if err != nil {
		return fmt.Errorf("scaffolds: %w", err)
	}
	sc, err := Parse(path.Join(from, file), content)
	if err != nil {
		return err
	}
	if sc.Name != name {
		return &HeaderError{sc.Origin, 1, 1, fmt.Sprintf("the scaffold %q must lie in a directory of its name, not in %q", sc.Name, name)}
	}
	if sc.Examples, err = loadExamples(files, name); err != nil {
		return fmt.Errorf("scaffolds: %w", err)
	}
	if from == "bundled" {
		sc.Origin = "bundled"
	}
	s.add(sc)
	return nil
}

func (s *Set) add(sc *Scaffold) {
	i, found := slices.BinarySearchFunc(s.list, sc.Name, byName)
	if !found {
		s.list = slices.Insert(s.list, i, sc)
		return
	}
	s.notes = append(s.notes, fmt.Sprintf("%s %s in %s takes the place of %s from %s", sc.Name, sc.Version, sc.Origin, s.list[i].Version, s.list[i].Origin))
	s.list[i] = sc
}

func byName(s *Scaffold, name string) int { return strings.Compare(s.Name, name) }

// readBounded reads a file that is no link, or leads to a regular one in files.
func readBounded(files fs.FS, name string) (content []byte, err error) {
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", name, maxFileSize)
	}
	return fs.ReadFile(files, name)
}

// All returns the scaffolds by name. Do not modify it.
func (s *Set) All() []*Scaffold { return s.list }

// Notes says what a person should know of how the set came about.
func (s *Set) Notes() []string { return s.notes }

// Get returns the scaffold of a name, or nil.
func (s *Set) Get(name string) *Scaffold {
	if i, ok := slices.BinarySearchFunc(s.list, name, byName); ok {
		return s.list[i]
	}
	return nil
}

// For returns the scaffolds that apply to g, those that name its rule first,
// then by name.
func (s *Set) For(g Gap) []*Scaffold {
	var named, typed []*Scaffold
	for _, sc := range s.list {
		switch {
		case !sc.Applies(g):
		case len(sc.Rules) > 0:
			named = append(named, sc)
		default:
			typed = append(typed, sc)
		}
	}
	return append(named, typed...)
}
