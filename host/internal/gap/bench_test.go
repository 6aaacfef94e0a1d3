package gap_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/workspace"
)

// manyTODOs is a world of files with twenty gaps each.
func manyTODOs(gaps int) *world {
	w := newWorld(nil)
	for i := range gaps / 20 {
		var text strings.Builder
		for g := range 20 {
			fmt.Fprintf(&text, "func f%d() {\n\tcall(%d)\n\t// TODO: improve step %d of %d\n\treturn\n}\n", g, i*g, g, i)
		}
		w.write(fmt.Sprintf("pkg%d/file%d.go", i%50, i), text.String())
	}
	return w
}

func onDisk(b *testing.B) gap.Store {
	b.Helper()
	db, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "sop.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db.Gaps()
}

func benchScan(b *testing.B, s *gap.Scanner, w gap.Walker, d gap.Detector) *gap.ScanResult {
	b.Helper()
	result, err := s.Scan(context.Background(), gap.Target{Workspace: "w", Walker: w, Detectors: []gap.Detector{d}})
	if err != nil || !result.Complete {
		b.Fatal(result, err)
	}
	return result
}

// BenchmarkApply scans 20,000 findings into SQLite on disk: all new, and all
// seen again by another generation.
func BenchmarkApply(b *testing.B) {
	const gaps = 20_000
	w := manyTODOs(gaps)
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s, d := gap.NewScanner(onDisk(b), nil, gap.ScanOptions{}), todos(w)
			b.StartTimer()
			if r := benchScan(b, s, w, d); r.New != gaps {
				b.Fatal(r.New)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		s, d := gap.NewScanner(onDisk(b), nil, gap.ScanOptions{}), todos(w)
		benchScan(b, s, w, d)
		n := 0
		for b.Loop() {
			n++
			d.generation = fmt.Sprint("again", n)
			if r := benchScan(b, s, w, d); r.Unchanged != gaps {
				b.Fatal(r.Unchanged)
			}
		}
	})
	b.Run("one file", func(b *testing.B) {
		s, d := gap.NewScanner(onDisk(b), nil, gap.ScanOptions{}), todos(w)
		benchScan(b, s, w, d)
		for b.Loop() {
			w.write("pkg0/file0.go", w.files["pkg0/file0.go"]+"\n")
			if r := benchScan(b, s, w, d); r.Unchanged != gaps {
				b.Fatal(r.Unchanged)
			}
		}
	})
}

// BenchmarkRescanUnchanged rescans a tree of 20,000 files with 20,000 gaps in
// which nothing has changed, against a bare walk with a stat of each file.
func BenchmarkRescanUnchanged(b *testing.B) {
	root := b.TempDir()
	for i := range 20_000 {
		dir := filepath.Join(root, fmt.Sprintf("d%d/e%d", i%40, i%400))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.go", i)), []byte("// TODO\n"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("walk and stat", func(b *testing.B) {
		for b.Loop() {
			files := 0
			err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				files++
				_, err = e.Info()
				return err
			})
			if err != nil || files != 20_000 {
				b.Fatal(files, err)
			}
		}
	})
	walker, err := workspace.NewWalker(root, workspace.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("workspace walk", func(b *testing.B) {
		for b.Loop() {
			if _, err := walker.Walk(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("rescan", func(b *testing.B) {
		s := gap.NewScanner(onDisk(b), nil, gap.ScanOptions{})
		m, err := walker.Walk(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		contents := newWorld(nil)
		for _, f := range m.Files {
			contents.files[f.Path] = "// TODO\n"
		}
		d := todos(contents)
		if r := benchScan(b, s, walker, d); r.New != 20_000 {
			b.Fatal(r.New)
		}
		benchScan(b, s, walker, d) // files that were racily clean are settled
		for b.Loop() {
			if r := benchScan(b, s, walker, d); r.Unchanged != 20_000 || r.Detectors[0].Asked {
				b.Fatal(r.Unchanged, r.Detectors)
			}
		}
	})
}
