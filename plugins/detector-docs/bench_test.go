package main

import (
	"go/build"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// benchRoot is the tree to scan: SOP_DOCS_REPO, or the standard library.
func benchRoot() string {
	if root := os.Getenv("SOP_DOCS_REPO"); root != "" {
		return root
	}
	return filepath.Join(build.Default.GOROOT, "src")
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScanFloor reads every file once and parses the Go among them.
func BenchmarkScanFloor(b *testing.B) {
	files := newFileList(b)
	start := cpu(b)
	for b.Loop() {
		for _, name := range files {
			content, err := os.ReadFile(name)
			if err == nil && strings.HasSuffix(name, ".go") {
				_, _ = parseFully(content)
			}
		}
	}
	b.ReportMetric(float64((cpu(b)-start).Milliseconds())/float64(b.N), "cpu-ms/op")
}

// BenchmarkScan is a first scan of the tree over gRPC.
func BenchmarkScan(b *testing.B) {
	h := newHost(b, benchRoot(), nil)
	h.manifest = h.list(b)
	start := cpu(b)
	for b.Loop() {
		h.scan(b)
	}
	b.ReportMetric(float64((cpu(b)-start).Milliseconds())/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(len(h.manifest)), "files")
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc>>20), "MiB-held")
	b.ReportMetric(float64(m.Sys>>20), "MiB-sys")
}

// BenchmarkRescan is a scan after one Go and one Markdown file were touched.
func BenchmarkRescan(b *testing.B) {
	h := newHost(b, benchRoot(), nil)
	h.scan(b)
	touched := make(map[string]bool)
	for name := range h.manifest {
		if len(touched) == 0 && isMarkdown(name) || len(touched) == 1 && strings.HasSuffix(name, ".go") {
			touched[name] = true
		}
	}
	for b.Loop() {
		h.rescan(b, touched)
	}
}

func newFileList(b *testing.B) []string {
	b.Helper()
	h := &host{root: benchRoot()}
	listed := h.list(b)
	files := make([]string, 0, len(listed))
	for name := range listed {
		files = append(files, filepath.Join(h.root, name))
	}
	return files
}
