package verify

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
)

// A baseline is what the tests of a workspace do without any patch.
type baseline struct {
	// packages are, by directory, the tests that pass, with how many beneath each.
	packages map[string]map[string]pass
	unbuilt  bool // the tests could not be built: those that are written are expected

	mu       sync.Mutex
	coverage map[string]Share // by directory, of packages that were measured
}

// covered is the coverage that is known of packages, and those of which it is not.
func (b *baseline) covered(packages map[string]string) (known map[string]Share, missing map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, missing = make(map[string]Share), make(map[string]string)
	for dir, name := range packages {
		if s, found := b.coverage[dir]; found {
			known[dir] = s
		} else {
			missing[dir] = name
		}
	}
	return known, missing
}

func (b *baseline) remember(found map[string]Share) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.coverage == nil {
		b.coverage = make(map[string]Share)
	}
	maps.Copy(b.coverage, found)
}

// baselines keeps those of workspaces as they were lately: many patches are
// verified against the same tree.
type baselines struct {
	mu    sync.Mutex
	known map[string]*baseline
}

const maxBaselines = 32

func (b *baselines) get(key string) *baseline {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[key]
}

func (b *baselines) put(key string, one *baseline) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) >= maxBaselines || b.known == nil {
		b.known = make(map[string]*baseline)
	}
	b.known[key] = one
}

// before runs the tests without the patch. Where they cannot be built without
// it, the tests that stand in the sources are expected. It is nil when a sandbox
// could not be had, which the verdict then says.
func (g *goTests) before(ctx context.Context) (*baseline, error) {
	key, err := g.key()
	if err != nil {
		return nil, err
	}
	if known := g.work.verifier.baselines.get(key); known != nil {
		return known, nil
	}
	found := &baseline{packages: make(map[string]map[string]pass)}
	b := new(building)
	if err := g.build(ctx, b); err != nil {
		return nil, err
	}
	if b.failed != "" {
		g.unbuilt(b)
		if b.run.Result.Refusal != nil {
			return nil, nil //nolint:nilnil // the verdict says why
		}
		g.verdict.Why = ""
		return g.written()
	}
	for dir, program := range b.programs {
		r, err := g.run(ctx, nil, dir, program)
		if err != nil {
			return nil, err
		}
		found.packages[dir] = passedTests(r.tests)
	}
	g.forgive(found)
	g.work.verifier.baselines.put(key, found)
	return found, nil
}

// forgive expects nothing of tests in files that the patch may change.
func (g *goTests) forgive(b *baseline) {
	for dir, expected := range b.packages {
		for _, f := range g.work.testSources(dir) {
			if !matchesAny(g.work.spec.MayChange, f.name) {
				continue
			}
			for _, test := range f.tests {
				delete(expected, test.name)
			}
		}
	}
}

// written expects every test that stands in a file which the patch may not
// change.
func (g *goTests) written() (*baseline, error) {
	b := &baseline{packages: make(map[string]map[string]pass), unbuilt: true}
	for dir := range g.work.testDirs() {
		for _, f := range g.work.testSources(dir) {
			for _, test := range f.tests {
				if matchesAny(g.work.spec.MayChange, f.name) {
					continue
				}
				if b.packages[dir] == nil {
					b.packages[dir] = make(map[string]pass)
				}
				b.packages[dir][test.name] = pass{runs: 1}
			}
		}
	}
	return b, nil
}

// key tells the state of a workspace, and how it is tested, from others.
func (g *goTests) key() (string, error) {
	h := sha256.New()
	how, err := json.Marshal([]any{g.work.spec.Workspace, g.step, g.work.spec.MayChange, g.work.spec.Profile})
	if err != nil {
		return "", err
	}
	h.Write(how)
	root, err := os.OpenRoot(g.work.spec.Workspace)
	if err != nil {
		return "", err
	}
	defer root.Close() //nolint:errcheck // only read from
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err == nil && !entry.IsDir() {
			_, err = fmt.Fprintf(h, "%q %v %d %d\n", name, info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}
