package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sitter "github.com/odvcencio/gotreesitter"
	"github.com/odvcencio/gotreesitter/grammars"
)

const treeFiles = 20_000

// program is the built host.
func program(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../bin/sop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run `make build` first", err)
	}
	return path
}

// makeTree makes a tree of real sources: Go's own, and Python's where it is
// wanted and installed, again and again under other names until there are
// enough files.
func makeTree(t *testing.T, withPython bool) string {
	t.Helper()
	root := t.TempDir()
	var sources []string
	goroot, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	sources = append(sources, list(t, filepath.Join(strings.TrimSpace(string(goroot)), "src"), ".go", 9000)...)
	if withPython {
		out, err := exec.CommandContext(t.Context(), "python3", "-c", "import os; print(os.path.dirname(os.__file__))").Output()
		if err == nil {
			sources = append(sources, list(t, strings.TrimSpace(string(out)), ".py", 1600)...)
		} else {
			t.Log("no python3 here: the tree is Go alone")
		}
	}
	for n := 0; n < treeFiles; {
		for i, src := range sources {
			if n == treeFiles {
				break
			}
			data, err := os.ReadFile(src)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(root, fmt.Sprintf("part%02d", n/len(sources)), fmt.Sprintf("d%03d", i/40))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%05d_%s", i, filepath.Base(src))), data, 0o644); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	return root
}

// list returns up to most files with the suffix, evenly spread.
func list(t *testing.T, dir, suffix string, most int) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, suffix) &&
			!strings.Contains(path, "/testdata/") && !strings.Contains(path, "/test/") && !strings.Contains(path, "site-packages") {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for len(all) > most {
		step := len(all)/most + 1
		var some []string
		for i := 0; i < len(all); i += step {
			some = append(some, all[i])
		}
		all = some
	}
	return all
}

// floor reads every file once and parses the Go and Python among them once, on
// all cores, and returns the CPU that it took.
func floor(t *testing.T, root string) time.Duration {
	t.Helper()
	before := ownCPU()
	paths := make(chan string, 256)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			python := sitter.NewParser(grammars.PythonLanguage())
			for path := range paths {
				src, err := os.ReadFile(path)
				if err != nil {
					t.Error(err)
					return
				}
				switch filepath.Ext(path) {
				case ".go":
					_, _ = parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments|parser.SkipObjectResolution)
				case ".py":
					if tree, err := python.Parse(src); err == nil && tree != nil {
						tree.Release()
					}
				}
			}
		})
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths <- path
		}
		return err
	})
	close(paths)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return ownCPU() - before
}

// TestBenchScan: `sop scan` of 20,000 files, host and detectors together,
// against reading and parsing them once: Go and Python with the grammar that
// the detectors fall back on, and Go alone, where both sides have the same
// parser.
func TestBenchScan(t *testing.T) {
	wanted(t)
	for _, tree := range []struct {
		name   string
		python bool
	}{{"Go and Python", true}, {"Go alone", false}} {
		root := makeTree(t, tree.python)
		floor(t, root) // the page cache and the grammar
		var f, o []time.Duration
		for range 3 {
			f = append(f, floor(t, root))
			cmd := exec.CommandContext(t.Context(), program(t), "scan", root, "-o", "json")
			cmd.Stderr = os.Stderr
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			o = append(o, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()) // with its plugins, which it awaits
		}
		say(t, "scan of 20k files, CPU, "+tree.name, float64(median(o))/float64(median(f)), "≤ 2×", "%v against %v to read and parse once",
			median(o).Round(time.Millisecond), median(f).Round(time.Millisecond))
	}
}

// TestBenchRescan: a rescan with nothing changed in a resident host, against a
// bare walk that looks at every file; and the memory of the detectors.
func TestBenchRescan(t *testing.T) {
	wanted(t)
	root, dir := makeTree(t, true), t.TempDir()
	config := fmt.Sprintf(`
host { data_dir = %q }
workspace "main" { path = %q }
plugin "detector" "docs" { command = "${path.plugins}/detector-docs" }
plugin "detector" "code" { command = "${path.plugins}/detector-code" }
`, filepath.Join(dir, "data"), root)
	path := filepath.Join(dir, "config.hcl")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	sop := program(t)
	if out, err := exec.CommandContext(t.Context(), sop, "plugin", "lock", "-c", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	up := exec.CommandContext(t.Context(), sop, "up", "-c", path, "-o", "json")
	up.Stderr = os.Stderr
	stdout, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		if err := up.Wait(); err != nil {
			t.Error(err)
		}
	}()
	awaitScan(t, bufio.NewScanner(stdout))
	pids := append(detectorPIDs(t, sop, path), up.Process.Pid)
	const rounds = 10
	var f, o []time.Duration
	for range rounds {
		before := ownCPU()
		err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			_, err = d.Info()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		f = append(f, ownCPU()-before)
	}
	total := func() (sum time.Duration) {
		for _, pid := range pids {
			sum += cpuOf(t, pid)
		}
		return sum
	}
	before := total()
	for range rounds {
		rescan(t, filepath.Join(dir, "data"))
	}
	o = append(o, (total()-before)/rounds)
	say(t, "rescan with nothing changed, CPU", float64(o[0])/float64(median(f)), "≤ 2×", "%v against %v to walk and stat", o[0].Round(time.Millisecond), median(f).Round(time.Millisecond))
	for _, pid := range pids[:len(pids)-1] {
		t.Logf("bench  %-44s %d MiB peak, target < 256 MiB (pid %d)", "memory of a detector on 20k files", peak(t, pid)>>20, pid)
	}
}

// awaitScan reads the host's events until the first scan is done, and lets the
// rest go.
func awaitScan(t *testing.T, lines *bufio.Scanner) {
	t.Helper()
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(`"last_scan"`)) {
			go func() {
				for lines.Scan() {
				}
			}()
			return
		}
	}
	t.Fatal(errors.Join(errors.New("the host ended before its first scan"), lines.Err()))
}

type status struct {
	Plugins []struct {
		PID int `json:"pid"`
	} `json:"plugins"`
}

func detectorPIDs(t *testing.T, sop, config string) (pids []int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), sop, "status", "-c", config, "-o", "json").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var s status
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Plugins {
		pids = append(pids, p.PID)
	}
	return pids
}

// peak is the most memory that a process has held, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// TestBenchStatus: `sop status` of a running host as a whole process.
func TestBenchStatus(t *testing.T) {
	wanted(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "config.hcl")
	config := fmt.Sprintf("host { data_dir = %q }\nworkspace \"main\" { path = %q }\nplugin \"detector\" \"docs\" { command = \"${path.plugins}/detector-docs\" }\n", filepath.Join(dir, "data"), dir)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	sop := program(t)
	if out, err := exec.CommandContext(t.Context(), sop, "plugin", "lock", "-c", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	up := exec.CommandContext(t.Context(), sop, "up", "-c", path, "-o", "json")
	stdout, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		if err := up.Wait(); err != nil {
			t.Error(err)
		}
	}()
	awaitScan(t, bufio.NewScanner(stdout))
	var floor, ours []time.Duration
	for range 41 {
		begin := time.Now()
		if err := exec.CommandContext(t.Context(), "/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
		floor = append(floor, time.Since(begin))
		begin = time.Now()
		if out, err := exec.CommandContext(t.Context(), sop, "status", "-c", path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		ours = append(ours, time.Since(begin))
	}
	t.Logf("bench  %-44s median %v, target ≤ 25ms (/bin/true: %v)", "sop status, whole process", median(ours), median(floor))
}
