package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// site is where one test takes place: a directory of its own with
// configuration, data directory and workspace. Its end asserts that nothing is
// left behind.
type site struct {
	t    *testing.T
	dir  string
	conf string // of the configuration: a file, or a directory
	data string
	work string
	as   *syscall.Credential // who runs sop; nil: who runs the test
	env  []string            // beyond what every command has
}

// readme is one that nothing is wrong with.
const readme = "# Sample\n\nIt says what this is.\n"

// newSite makes a site. Its paths are short, so that sockets fit.
func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "sop-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	return newSiteIn(t, dir)
}

func newSiteIn(t *testing.T, dir string) *site {
	t.Helper()
	s := &site{
		t: t, dir: dir, conf: filepath.Join(dir, "config.hcl"), data: filepath.Join(dir, "data"), work: filepath.Join(dir, "work"),
	}
	for _, d := range []string{s.work, s.home(), s.tmp()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.finish)
	return s
}

func (s *site) home() string   { return filepath.Join(s.dir, "home") }
func (s *site) tmp() string    { return filepath.Join(s.dir, "tmp") }
func (s *site) socket() string { return filepath.Join(s.data, "state", "sop.sock") }

// finish asserts that nothing is left, and removes the site.
func (s *site) finish() {
	s.noProcesses()
	s.empty(s.tmp())
	s.empty(filepath.Join(s.data, "run"))
	if _, err := os.Lstat(s.socket()); err == nil {
		s.t.Errorf("the host left its socket %s", s.socket())
	}
	if s.t.Failed() {
		s.t.Logf("host log:\n%s", tail(filepath.Join(s.data, "logs", "host.log"), 40))
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Errorf("remove the site: %v", err)
	}
}

// empty asserts that a directory, if there is one, has nothing in it.
func (s *site) empty(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("%v", err)
	}
	for _, e := range entries {
		s.t.Errorf("%s was left behind", filepath.Join(dir, e.Name()))
	}
}

// tail returns the last lines of a file, each cut to a readable length.
func tail(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 400)]
	}
	return strings.Join(lines, "\n")
}

// asNobody makes everything here an ordinary user's, who runs sop from now on.
func (s *site) asNobody() {
	s.t.Helper()
	if os.Getuid() != 0 {
		s.t.Skip("only root can run sop as somebody else")
	}
	s.as = &syscall.Credential{Uid: nobody, Gid: nobody}
	err := filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// write writes a file of the workspace.
func (s *site) write(name, content string) {
	s.t.Helper()
	s.put(filepath.Join(s.work, name), content)
}

// put writes a file in place, as a careless editor does.
func (s *site) put(path, content string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// read returns the content of a file.
func (s *site) read(path string) string {
	s.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// remove removes a file of the workspace.
func (s *site) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.work, name)); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes the configuration with further blocks.
func (s *site) configure(blocks ...string) {
	s.t.Helper()
	s.put(s.conf+".new", s.config(blocks...)) // not in place: a host may read it in between, and refuse what is half written
	if err := os.Rename(s.conf+".new", s.conf); err != nil {
		s.t.Fatal(err)
	}
}

// config is a configuration that governs the workspace with the detector docs.
func (s *site) config(blocks ...string) string {
	return fmt.Sprintf(`host {
  data_dir        = %q
  log_level       = "debug"
  reload_debounce = "20ms"
}

workspace "main" {
  path = %q
  scan {
    interval = "0s"
  }
}

plugin "detector" "docs" {
  command = "${path.plugins}/detector-docs"
}

%s
`, s.data, s.work, strings.Join(blocks, "\n"))
}

// install puts a program into the site, by renaming a finished copy into place,
// and returns its path.
func (s *site) install(name, program string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, "plugins", name)
	fresh := path + ".new"
	if err := copyProgram(program, fresh); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(fresh, path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// forgeLock locks a program that cannot be described, as `sop plugin lock`
// would have if it had been a plugin then.
func (s *site) forgeLock(kind, name, program string) {
	s.t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	path := filepath.Join(s.dir, "sop.lock.hcl")
	old, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	rest := regexp.MustCompile(fmt.Sprintf(`(?s)plugin %q %q \{.*?\n\}\n`, kind, name)).ReplaceAllLiteral(old, nil)
	s.put(path, fmt.Sprintf("%s\nplugin %q %q {\n  hash    = \"sha256:%s\"\n  version = \"1.0.0\"\n  schema  = \"{}\"\n}\n",
		rest, kind, name, hex.EncodeToString(sum[:])))
}

// result is how a command ended.
type result struct {
	args   []string
	stdout string
	stderr string
	code   int
	took   time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("sop %s: exit %d after %v\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, r.took, clip(r.stdout), clip(r.stderr))
}

func clip(s string) string {
	const limit = 4000
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// commandTimeout bounds every command of a test.
const commandTimeout = 60 * time.Second

// command prepares a sop command that runs in the site.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, sopProgram(), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home(), "TMPDIR=" + s.tmp(), "NO_COLOR=1"}
	cmd.Env = append(cmd.Env, s.env...)
	if s.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	}
	return cmd
}

// sop runs a command to its end.
func (s *site) sop(args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return s.finishCommand(s.command(ctx, args...))
}

func (s *site) finishCommand(cmd *exec.Cmd) result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	r := result{args: cmd.Args[1:], stdout: stdout.String(), stderr: stderr.String(), took: time.Since(begin)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil:
		s.t.Fatalf("%v: %v", cmd.Args, err)
	}
	return r
}

// must runs a command that ends with this code.
func (s *site) must(code int, args ...string) result {
	s.t.Helper()
	r := s.sop(args...)
	if r.code != code {
		s.t.Fatalf("want exit %d: %v", code, r)
	}
	return r
}

// lock runs `sop plugin lock`.
func (s *site) lock() { s.t.Helper(); s.must(0, "plugin", "lock", "--config", s.conf) }

// decode reads a command's JSON.
func decode[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v\n%v", err, r)
	}
	return v
}

// gaps asks the host for gaps.
func (s *site) gaps(filter ...string) []*apiv1.GapRecord {
	s.t.Helper()
	r := s.must(0, append([]string{"gap", "list", "-o", "json", "--config", s.conf}, filter...)...)
	var out []*apiv1.GapRecord
	for _, raw := range decode[struct{ Gaps []json.RawMessage }](s.t, r).Gaps {
		g := &apiv1.GapRecord{}
		if err := protojson.Unmarshal(raw, g); err != nil {
			s.t.Fatalf("%v\n%v", err, r)
		}
		out = append(out, g)
	}
	return out
}

// gap shows one gap with its history.
func (s *site) gap(id string) *apiv1.GapRecord {
	s.t.Helper()
	r := s.must(0, "gap", "show", id, "-o", "json")
	g := &apiv1.GapRecord{}
	if err := protojson.Unmarshal(decode[struct{ Gap json.RawMessage }](s.t, r).Gap, g); err != nil {
		s.t.Fatalf("%v\n%v", err, r)
	}
	return g
}

// places lists gaps as "rule path:line", in order.
func places(gaps []*apiv1.GapRecord) []string {
	out := make([]string, len(gaps))
	for i, g := range gaps {
		out[i] = fmt.Sprintf("%s %s:%d", g.GetRule(), g.GetPath(), g.GetLine())
	}
	return out
}
