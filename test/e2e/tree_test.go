package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// document is what `sop scan -o json` prints.
type document struct {
	Gaps        []map[string]any `json:"gaps"`
	Diagnostics []struct {
		Detector string `json:"detector"`
		Path     string `json:"path"`
		Line     int    `json:"line"`
		Reason   string `json:"reason"`
		Message  string `json:"message"`
	} `json:"diagnostics"`
	Summary map[string]any `json:"summary"`
}

// says says whether a diagnostic is about that path for that reason.
func (d document) says(path, reason string) bool {
	for _, one := range d.Diagnostics {
		if strings.Contains(one.Path+" "+one.Message, path) && strings.Contains(one.Reason, reason) && one.Message != "" {
			return true
		}
	}
	return false
}

func (d document) skipped(reason string) float64 {
	all, _ := d.Summary["skipped"].(map[string]any)
	n, _ := all[reason].(float64)
	return n
}

// Whatever a tree holds, a scan of it is no failure: what cannot be examined is
// among the diagnostics, and the rest is examined.
func TestBadTree(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.writeSample()
	path := func(name string) string { return filepath.Join(s.work, name) }
	for _, name := range []string{"not-utf8-\xff\xfe.md", "control-\x1b[31m.md", "new\nline.md", "dir-\xff/inside.md", "plain.md"} {
		s.write(name, "[broken](nowhere.md)\n")
	}
	for link, target := range map[string]string{"loop-a": "loop-b", "loop-b": "loop-a", "self": "self", "up": "..", "dangling": "nowhere", "outside.md": "/etc/passwd"} {
		if err := os.Symlink(target, path(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(path("pipe.md"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.write("large.go", "package large\n")
	s.write("large.md", "# Large\n")
	for _, name := range []string{"large.go", "large.md"} {
		if err := os.Truncate(path(name), 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	s.write("locked/README.md", "[broken](nowhere.md)\n")
	s.write("locked.md", "[broken](nowhere.md)\n")
	s.asNobody()
	for _, name := range []string{"locked", "locked.md"} {
		if err := os.Chmod(path(name), 0); err != nil {
			t.Fatal(err)
		}
	}
	s.write("broken.go", "package broken\n\nfunc (\n")
	s.write("broken.py", "def f(:\n")

	r := s.must(0, "scan", "work", "-o", "json")
	d := decode[document](t, r)
	for _, want := range []struct{ path, reason string }{
		{"not-utf8-", ""},
		{"control-", ""},
		{"dir-", ""},
		{"pipe.md", "SPECIAL"},
		{"large.go", "TOO_LARGE"},
		{"large.md", "TOO_LARGE"},
		{"locked", "WALK_"},
		{"locked.md", "UNREADABLE"},
		{"broken.go", "PARSE_ERROR"},
		{"broken.py", "PARSE_ERROR"},
	} {
		if !d.says(want.path, want.reason) {
			t.Errorf("no diagnostic %s about %s: %+v", want.reason, want.path, d.Diagnostics)
		}
	}
	if d.skipped("symlink") != 6 || d.skipped("special") != 1 || d.skipped("bad_name") == 0 {
		t.Errorf("skipped: %v", d.Summary["skipped"])
	}
	found := make(map[string]bool)
	for _, g := range d.Gaps {
		found[fmt.Sprint(g["rule"], " ", g["path"])] = true
	}
	if !found["docs.markdown.link plain.md"] || !found["code.stub calc/calc.go"] || !found["docs.python.function tool.py"] {
		t.Errorf("what can be examined was not: %v", found)
	}
	if shown := r.stdout + s.must(0, "scan", "work").stdout; strings.Contains(shown, "\x1b") || !utf8.ValidString(shown) {
		t.Error("a name's control characters reach the terminal")
	}
	for _, name := range []string{"locked", "locked.md"} { // so that the site can be removed
		if err := os.Chmod(path(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// The host says the same of such a tree, and stays well.
func TestBadTreeUnderHost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.write("not-utf8-\xff.md", "[broken](nowhere.md)\n")
	s.write("large.go", "package large\n")
	if err := os.Truncate(filepath.Join(s.work, "large.go"), 1<<30); err != nil {
		t.Fatal(err)
	}
	s.configure(codePlugin)
	s.lock()
	h := s.up()
	scan := lastScan(h.status())
	reasons := make(map[string]int)
	for _, d := range scan.GetDiagnostics() {
		reasons[d.GetReason()]++
	}
	if !scan.GetComplete() || reasons["TOO_LARGE"] == 0 || scan.GetDiagnosticsTotal() < 2 {
		t.Errorf("complete %v, %v", scan.GetComplete(), scan.GetDiagnostics())
	}
	if r := s.must(0, "status"); strings.Contains(r.stdout, "\xff") {
		t.Errorf("%v", r)
	}
}

// Files come and go while they are looked at: that is no failure, and a file
// that was gone for a moment is not resolved by it for good.
func TestTreeThatChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	const files, rounds = 400, 4
	for i := range files {
		s.write(fmt.Sprintf("d%d/f%d.md", i%20, i), "[broken](nowhere.md)\n")
	}
	s.configure()
	s.lock()
	h := s.up()
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := filepath.Join(s.work, fmt.Sprintf("d%d/f%d.md", i%files%20, i%files))
			_ = os.Remove(name)
			if err := os.WriteFile(name, []byte("[broken](nowhere.md)\n"), 0o644); err != nil {
				t.Errorf("churn: %v", err)
				return
			}
		}
	})
	for range rounds {
		d := decode[document](t, s.must(0, "scan", "work", "-o", "json"))
		for _, one := range d.Diagnostics {
			if one.Reason != "VANISHED" && one.Reason != "UNREADABLE" && !strings.HasPrefix(one.Reason, "WALK_") {
				t.Errorf("a diagnostic of a file that comes and goes: %+v", one)
			}
		}
		if report := h.scan(); !report.GetComplete() || report.GetError() != "" {
			t.Errorf("scan: %v", report)
		}
	}
	close(stop)
	churn.Wait()
	h.scan()
	if n := len(s.gaps("--rule", "docs.markdown.link")); n != files {
		t.Errorf("%d gaps, want %d", n, files)
	}
	h.waitFor("it is well", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
}
