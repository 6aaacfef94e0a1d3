package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// sample is a tree with known gaps.
var sample = map[string]string{
	"README.md": "# Sample\n\nSee [the guide](guide.md), [there](other.md#nowhere) and [here](#nothing).\n",
	"other.md":  "# Other\n",
	"calc/calc.go": `// Package calc calculates.
package calc

func Add(a, b int) int { return a + b }

// Sub subtracts. TODO: overflow
func Sub(a, b int) int { return a - b }

// Mul multiplies.
func Mul(a, b int) int {
	panic("not implemented")
}
`,
	"tool.py": `"""A tool."""


def run():
    return "TODO is no marker in a string"


def later():
    """Later."""
    raise NotImplementedError
`,
}

// sampleGaps are the gaps of the sample, worst first.
var sampleGaps = []string{
	"docs.markdown.link README.md:3",
	"code.stub calc/calc.go:10",
	"code.stub tool.py:8",
	"docs.markdown.anchor README.md:3",
	"docs.markdown.anchor README.md:3",
	"docs.go.exported calc/calc.go:4",
	"code.marker calc/calc.go:6",
	"docs.python.function tool.py:4",
}

func (s *site) writeSample() {
	s.t.Helper()
	for name, content := range sample {
		s.write(name, content)
	}
}

// A newcomer writes a configuration into a tree, starts the host there, reads,
// stops it, and goes on the next day.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.work, s.data = s.dir, filepath.Join(s.dir, ".sop")
	s.writeSample()

	s.must(0, "init")
	s.must(0, "validate")
	s.must(6, "init") // never overwrites
	s.must(0, "plugin", "lock")
	s.must(0, "plugin", "lock", "--check")

	h := s.up()
	h.await("the step that says that the host is resident", func(l line) bool { return l.Component == "host" && l.Phase == "ready" })
	for _, component := range []string{"config", "store", "api", "plugin detector.docs", "plugin detector.code", "workspace main"} {
		h.await(component, func(l line) bool { return l.Component == component && l.Phase == "ready" })
	}
	status := h.status()
	if status.GetState() != "ok" {
		t.Errorf("state %s: %v", status.GetState(), status.GetReasons())
	}
	if n := lastScan(status).GetDiagnosticsTotal(); n != 0 {
		t.Errorf("a newcomer's first scan has %d diagnostics: %v", n, lastScan(status).GetDiagnostics())
	}
	first := s.gaps()
	if got := places(first); !slices.Equal(got, sampleGaps) {
		t.Errorf("gaps:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(sampleGaps, "\n"))
	}
	if took := h.stop(); took > 5*time.Second {
		t.Errorf("the host took %v to stop", took)
	}

	h = s.up()
	if n := lastScan(h.status()).GetOpened(); n != 0 {
		t.Errorf("the second start opened %d gaps", n)
	}
	if !slices.Equal(ids(s.gaps()), ids(first)) {
		t.Error("the second start does not know the first one's gaps")
	}
}

func ids(gaps []*apiv1.GapRecord) []string {
	out := make([]string, len(gaps))
	for i, g := range gaps {
		out[i] = g.GetId()
	}
	slices.Sort(out)
	return out
}

// What people see: the timeline, the findings under their severities with file
// and line, and where to look next.
func TestUpForPeople(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.writeSample()
	s.configure(codePlugin)
	s.lock()
	cmd := s.command(t.Context(), "up")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	var seen strings.Builder
	buf := make([]byte, 64<<10)
	for !strings.Contains(seen.String(), "sop gap show") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the host said only: %s", seen.String())
		}
		seen.Write(buf[:n])
	}
	text := seen.String()
	at := 0
	for _, want := range []string{
		"config", "ready", "plugin detector.docs", "resident, pid", "workspace main", "medium", "README.md:3", "docs.markdown.link",
		"calc/calc.go:10", "low", "tool.py:4", "where to look next", "sop gap list", "sop status",
	} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("there is no %q in its place:\n%s", want, text)
		}
		at += i
	}
	// A terminal that has gone away does not end the host.
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	s.write("new.md", "[broken](nowhere.md)\n")
	s.must(0, "reload")
	h := &host{site: s, cmd: cmd}
	for range 3 { // what there is to say about it goes to a closed pipe
		s.write("new.md", "[broken](nowhere.md)\n"+strings.Repeat("x\n", len(s.gaps())))
		h.scan()
		s.must(0, "plugin", "restart", "detector.docs")
	}
	s.must(0, "status")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("a host without a terminal ended with %v: %s", err, stderr.String())
	}
}

const codePlugin = `plugin "detector" "code" {
  command = "${path.plugins}/detector-code"
}
`

// The output of a command may be cut off.
func TestReaderThatStopsEarly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 200 {
		s.write(filepath.Join("d", strings.Repeat("x", 1+i)+".md"), strings.Repeat("[a](nowhere.md)\n\n", 20))
	}
	s.configure()
	s.lock()
	s.up()
	for _, command := range []string{"status", "status -o json", "gap list", "gap list -o json", "plugin list", "scan work", "scan work -o json", "help"} {
		ctx := t.Context()
		cmd := exec.CommandContext(ctx, "bash", "-c", `"$0" `+command+` | head -c 10; exit ${PIPESTATUS[0]}`, sopProgram())
		template := s.command(ctx)
		cmd.Dir, cmd.Env = template.Dir, template.Env
		r := s.finishCommand(cmd)
		if r.code != 0 && r.code != 1 && r.code != 128+int(syscall.SIGPIPE) || strings.Contains(r.stderr, "panic") || strings.Contains(r.stderr, "goroutine") {
			t.Errorf("sop %s | head: %v", command, r)
		}
	}
}

// A socket's address holds 108 bytes; a data directory may be longer.
func TestLongDataDir(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("", "sop-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	s := newSiteIn(t, filepath.Join(base, strings.Repeat("long/", 30)+"end"))
	s.writeSample()
	s.configure(codePlugin)
	s.lock()
	s.up()
	if got := places(s.gaps()); !slices.Equal(got, sampleGaps) {
		t.Errorf("gaps: %v", got)
	}
	s.must(0, "status")
}
