package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	sitter "github.com/odvcencio/gotreesitter"
	"github.com/odvcencio/gotreesitter/grammars"
)

// TestFloor measures the CPU of a scan against the floor: reading the same files
// once and parsing the Go and the Python among them once. It runs when SOP_BENCH
// is set, on SOP_BENCH_TREE or else on a part of GOROOT/src and of a Python
// standard library at SOP_PYTHON_CORPUS.
func TestFloor(t *testing.T) {
	if os.Getenv("SOP_BENCH") == "" {
		t.Skip("SOP_BENCH is not set")
	}
	root := os.Getenv("SOP_BENCH_TREE")
	if root == "" {
		root = t.TempDir()
		copySample(t, filepath.Join(goroot(t), "src"), filepath.Join(root, "go"), 1500)
		if corpus := os.Getenv("SOP_PYTHON_CORPUS"); corpus != "" {
			copySample(t, corpus, filepath.Join(root, "python"), 300)
		}
	}
	var files, goBytes, pythonBytes int
	floor := cpu(t, func() { files, goBytes, pythonBytes = parseAll(t, root) })
	d := newCode()
	client := cpu(t, func() { list(t, root) })
	var r *reply
	first := cpu(t, func() { r = scan(t, d, root) }) - client
	t.Logf("%d files, %d bytes of Go, %d of Python: floor %v, detector-code %v (%.2fx), %d findings, %d diagnostics",
		files, goBytes, pythonBytes, floor, first, first.Seconds()/floor.Seconds(), len(r.findings), len(r.diagnostics))
	if first > floor*3/2 {
		t.Errorf("detector-code costs %v, over one and a half times the floor", first)
	}
}

// goroot is where the Go sources are.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// cpu returns what fn costs, on all threads.
func cpu(t *testing.T, fn func()) time.Duration {
	t.Helper()
	runtime.GC()
	before := usage(t)
	fn()
	return usage(t) - before
}

func usage(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// parseAll is the floor.
func parseAll(t *testing.T, root string) (files, goBytes, pythonBytes int) {
	t.Helper()
	python := sitter.NewParser(grammars.PythonLanguage())
	python.SetTimeoutMicros(5_000_000)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || languageOf(name) == nil {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		switch filepath.Ext(name) {
		case ".go":
			goBytes += len(src)
			_, _ = parser.ParseFile(token.NewFileSet(), "", src, parser.ParseComments|parser.SkipObjectResolution)
		case ".py":
			pythonBytes += len(src)
			if tree, err := python.Parse(src); err == nil {
				tree.Release()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, goBytes, pythonBytes
}

// copySample copies up to n source files from one tree to another.
func copySample(t *testing.T, from, to string, n int) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "site-packages" || entry.Name() == "test") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".py" || !entry.Type().IsRegular() {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil || bytes.Contains(src[:min(2048, len(src))], []byte("DO NOT EDIT")) {
			return err // a generated file is not examined, and would flatter
		}
		if n--; n < 0 {
			return fs.SkipAll
		}
		write(t, to, strings.TrimPrefix(name, from), src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
