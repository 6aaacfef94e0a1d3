// Package importers counts, for each Go package of a tree, the packages of the same
// tree that import it: how far a change to it reaches.
//
// It reads no more of a file than its imports, and remembers them by size and time,
// so that only files that have changed are read again. It may be imported by
// startup.
package importers

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"

	"github.com/sop-host/sop/host/internal/workspace"
)

// maxSource bounds the files that are read.
const maxSource = 4 << 20

// Counter counts the importers of one tree. The zero value is ready for use; it is
// safe for concurrent use.
type Counter struct {
	mu    sync.Mutex
	known map[string]source // by path
}

// source is what is known of a file.
type source struct {
	size, modified int64
	imports        []string // of a Go file
	module         string   // of a go.mod
}

// Count returns for the directory of every package of a tree how many others import
// it; packages that nobody imports are in it with 0. The files are those of a walk.
// What cannot be read or is no Go imports nothing.
func (c *Counter) Count(ctx context.Context, root string, files []workspace.File) (map[string]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.read(ctx, root, files); err != nil {
		return nil, err
	}
	return c.count(), nil
}

// read brings what is known up to the files.
func (c *Counter) read(ctx context.Context, root string, files []workspace.File) error {
	tree, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("read the imports of Go files: %w", err)
	}
	defer tree.Close() //nolint:errcheck // only read from
	now := make(map[string]source, len(files))
	var todo []workspace.File
	for _, f := range files {
		if !relevant(f.Path) || f.Testdata || f.Size > maxSource {
			continue
		}
		if was, ok := c.known[f.Path]; ok && was.size == f.Size && was.modified == f.ModTime {
			now[f.Path] = was
			continue
		}
		todo = append(todo, f)
	}
	for i, s := range each(ctx, todo, func(f workspace.File) source { return look(tree, f) }) {
		now[todo[i].Path] = s
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c.known = now
	return nil
}

func relevant(name string) bool {
	return (strings.HasSuffix(name, ".go") || path.Base(name) == "go.mod") && !strings.HasPrefix(name, "vendor/") && !strings.Contains(name, "/vendor/")
}

// each calls fn for all files, several at a time, until ctx is done.
func each(ctx context.Context, files []workspace.File, fn func(workspace.File) source) []source {
	out := make([]source, len(files))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		workers.Go(func() {
			for i := range next {
				out[i] = fn(files[i])
			}
		})
	}
	for i := range files {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	return out
}

// look reads what counts of a file.
func look(tree *os.Root, f workspace.File) source {
	s := source{size: f.Size, modified: f.ModTime}
	text, err := read(tree, f.Path)
	if err != nil {
		return s // it has gone, or nobody may read it
	}
	if path.Base(f.Path) == "go.mod" {
		s.module = modfile.ModulePath(text)
		return s
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "", text, parser.ImportsOnly)
	if parsed == nil || err != nil && len(parsed.Imports) == 0 {
		return s
	}
	for _, spec := range parsed.Imports {
		if name, err := strconv.Unquote(spec.Path.Value); err == nil {
			s.imports = append(s.imports, name)
		}
	}
	return s
}

func read(tree *os.Root, name string) ([]byte, error) {
	file, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSource))
	return text, errors.Join(err, file.Close())
}

// count works the numbers out of what is known.
func (c *Counter) count() map[string]int {
	modules := make(map[string]string) // by directory
	for name, s := range c.known {
		if s.module != "" {
			modules[path.Dir(name)] = s.module
		}
	}
	dirs := make(map[string]string) // of packages, by what they are imported as
	counts := make(map[string]int)
	for name := range c.known {
		dir := path.Dir(name)
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		counts[dir] = 0
		if as, ok := importedAs(dir, modules); ok && !strings.HasSuffix(name, "_test.go") {
			dirs[as] = dir
		}
	}
	seen := make(map[[2]string]bool)
	for name, s := range c.known {
		by := path.Dir(name)
		for _, as := range s.imports {
			if of, ours := dirs[as]; ours && of != by && !seen[[2]string{of, by}] {
				seen[[2]string{of, by}] = true
				counts[of]++
			}
		}
	}
	return counts
}

// importedAs is the import path of the package in a directory, by the module that
// the directory lies in. Those of the standard library have no name before them.
func importedAs(dir string, modules map[string]string) (string, bool) {
	for at := dir; ; at = path.Dir(at) {
		if module, ok := modules[at]; ok {
			rest := strings.TrimPrefix(strings.TrimPrefix(dir, at), "/")
			if at == "." {
				rest = strings.TrimPrefix(dir, ".")
			}
			if module == "std" {
				return rest, rest != ""
			}
			return path.Join(module, rest), true
		}
		if at == "." {
			return "", false
		}
	}
}
