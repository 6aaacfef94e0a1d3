package workspace

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const benchFiles = 20_000

// benchTree makes 20,000 files in 1,000 directories, with ignore files and ignored files among them as repositories
// have them and everything else tracked, and a bare walk sees all of it.
func benchTree(tb testing.TB) sandbox {
	tb.Helper()
	s := newSandbox(tb)
	s.git(tb, "init", "-q")
	s.write(tb, map[string]string{
		".gitignore":              "*.o\n*.log\n!keep.log\n/build/\nbin/\n.DS_Store\n*~\n.idea/\n*.sw[op]\ncoverage.*\n/dist\n**/tmp/*.dat\ndocs/_build/\n",
		".git/info/exclude":       "*.local\n",
		"services/03/.gitignore":  "*.gen.go\n/out\n",
		"services/03/x.gen.go":    "",
		"services/05/main.o":      "",
		"services/05/bin/service": "",
	})
	n := 0
	for d := 0; n < benchFiles; d++ {
		dir := filepath.Join(s.root, "services", fmt.Sprintf("%02d", d%20), "internal", fmt.Sprintf("component%02d", d/20))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			tb.Fatal(err)
		}
		for i := 0; i < 20 && n < benchFiles; i++ {
			name := filepath.Join(dir, fmt.Sprintf("handler_number_%02d.%s", i, [...]string{"go", "md", "yaml", "py"}[i%4]))
			if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
				tb.Fatal(err)
			}
			n++
		}
	}
	s.git(tb, "add", "-A")
	settle()
	return s
}

func BenchmarkWalk20k(b *testing.B) {
	s := benchTree(b)
	w := newBenchWalker(b, s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Walk(bg); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFirstWalk20k is a walk that has to read git's index.
func BenchmarkFirstWalk20k(b *testing.B) {
	s := benchTree(b)
	b.ReportAllocs()
	for b.Loop() {
		rescan(b, newBenchWalker(b, s), nil)
	}
}

func BenchmarkCompare20k(b *testing.B) {
	s := benchTree(b)
	w := newBenchWalker(b, s)
	old, now := rescan(b, w, nil), rescan(b, w, nil)
	b.ReportAllocs()
	for b.Loop() {
		if c := Compare(old, now); !c.Empty() {
			b.Fatal(c)
		}
	}
}

// BenchmarkRescanRatio reports the processor time (user and system, all threads) of Walk and Compare as a multiple of
// that of filepath.WalkDir with an Lstat for each entry, the two taking turns.
func BenchmarkRescanRatio(b *testing.B) {
	s := benchTree(b)
	w := newBenchWalker(b, s)
	old := rescan(b, w, nil)
	bareWalk(b, s.root)
	var bare, ours time.Duration
	for b.Loop() {
		runtime.GC()
		start := cpuTime(b)
		bareWalk(b, s.root)
		middle := cpuTime(b)
		bare += middle - start
		runtime.GC()
		middle = cpuTime(b)
		old = rescan(b, w, old)
		ours += cpuTime(b) - middle
	}
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "x-bare-walk")
	b.ReportMetric(ours.Seconds()*1e3/float64(b.N), "cpu-ms/rescan")
	b.ReportMetric(bare.Seconds()*1e3/float64(b.N), "cpu-ms/bare")
}

func newBenchWalker(tb testing.TB, s sandbox) *Walker {
	tb.Helper()
	w, err := NewWalker(s.root, Options{Home: s.home})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// rescan walks and, given an old manifest, makes sure that nothing changed.
func rescan(tb testing.TB, w *Walker, old *Manifest) *Manifest {
	tb.Helper()
	m, err := w.Walk(bg)
	if err != nil {
		tb.Fatal(err)
	}
	if old != nil {
		if c := Compare(old, m); !c.Empty() {
			tb.Fatalf("%d added, %d modified, %d removed", len(c.Added), len(c.Modified), len(c.Removed))
		}
	}
	return m
}

// bareWalk is what the ratio is measured against; it keeps nothing.
func bareWalk(tb testing.TB, root string) {
	n := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		if _, err := os.Lstat(path); err != nil {
			return err
		}
		n++
		return nil
	})
	if err != nil || n < benchFiles {
		tb.Fatalf("%d files: %v", n, err)
	}
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestManifestIsSmall bounds what a manifest keeps in memory for each file.
func TestManifestIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 20,000 files")
	}
	s := benchTree(t)
	// Names of ignored files must not stay in memory with those of their neighbours.
	for i := range 5000 {
		writeFile(t, filepath.Join(s.root, strings.Repeat("o", 200)+fmt.Sprint(i)+".o"), "")
	}
	w := newBenchWalker(t, s)
	rescan(t, w, nil)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var st runtime.MemStats
		runtime.ReadMemStats(&st)
		return st.HeapAlloc
	}
	before := heap()
	m := rescan(t, w, nil)
	per := float64(heap()-before) / float64(len(m.Files))
	t.Logf("%.0f bytes for each of %d files", per, len(m.Files))
	if per > 200 {
		t.Errorf("%.0f bytes for each file", per)
	}
	runtime.KeepAlive(m)
}
