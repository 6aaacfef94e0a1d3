package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
)

const (
	programsVariable = "SOP_TEST_PROGRAMS" // built by the test of another user
	asHost           = "SOP_TEST_AS_HOST"  // act as a host that can be killed
)

// programs is where the programs of the tests are.
var programs string

func TestMain(m *testing.M) {
	if os.Getenv(asHost) != "" {
		fmt.Fprintln(os.Stderr, runAsHost())
		os.Exit(1)
	}
	code, err := withPrograms(m.Run)
	if leak := goleak.Find(); code == 0 && err == nil {
		err = leak
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(run func() int) (code int, err error) {
	if programs = os.Getenv(programsVariable); programs != "" {
		return run(), nil
	}
	if programs, err = os.MkdirTemp("", "sop-generate-test-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	if err := os.Chmod(programs, 0o755); err != nil {
		return 1, err
	}
	build := exec.Command("go", "build", "-trimpath", "-tags", "grammar_subset,grammar_subset_python", "-o", programs,
		"../../cmd/sop-sandbox", "../../../plugins/sandbox-exec", "../../../plugins/sandbox-exec/testdata/standin", "../../../plugins/sandbox-scaffold", "../../../plugins/detector-docs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs of the tests: %w\n%s", err, out)
	}
	return run(), nil
}

func program(name string) string { return filepath.Join(programs, name) }

func sandboxRunner() *sandbox.Runner { return &sandbox.Runner{Launcher: program("sop-sandbox")} }

// level is the strongest that this machine has.
var level = sync.OnceValue(func() sandbox.Level {
	levels, err := sandboxRunner().Probe(backgroundContext)
	if err != nil {
		panic(err)
	}
	for _, l := range levels {
		if l.Works {
			return l.Level
		}
	}
	panic("no level works, not even none")
})

// spec configures a bundled plugin.
func spec(dir, kind, name, config string) (*plugin.Spec, error) {
	command := program(kind + "-" + name)
	hash, err := plugin.HashFile(command)
	return &plugin.Spec{
		Kind: kind, Name: name, Command: command, Hash: hash, Config: []byte(config), StateDir: filepath.Join(dir, "state-"+name),
		StartTimeout: 30 * time.Second, CallTimeout: time.Minute, StopGrace: time.Second, DrainTimeout: time.Second, Restart: plugin.DefaultRestartPolicy,
	}, err
}

// start makes a pool with plugins.
func start(dir string, specs ...*plugin.Spec) (*plugin.Pool, error) {
	pool, err := plugin.New(plugin.Options{
		RunDir: filepath.Join(dir, "run"), HostVersion: "test", Logger: hclog.New(&hclog.LoggerOptions{Output: io.Discard}),
	})
	if err != nil {
		return nil, err
	}
	if err := pool.Start(backgroundContext, specs); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// bench is a pool with one generator, and a workspace.
type bench struct {
	t         *testing.T
	pool      *plugin.Pool
	runner    *Runner
	plugin    string
	workspace string
	profile   sandbox.Profile
	spec      *plugin.Spec
}

func newBench(t *testing.T, name string, config any, more ...*plugin.Spec) *bench {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := spec(dir, "sandbox", name, string(text))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := start(dir, append(more, s)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, pool: pool, runner: &Runner{Plugins: pool, Sandbox: sandboxRunner()}, plugin: "sandbox." + name, workspace: t.TempDir(), profile: sandbox.DefaultProfile, spec: s}
	b.profile.Level = level()
	b.write("a.txt", "old\n")
	return b
}

// script is a bench whose generator is a shell script.
func script(t *testing.T, text string) *bench {
	t.Helper()
	return newBench(t, "exec", map[string]any{"command": []string{"/bin/sh", "-c", text}, "stdin": "prompt"})
}

// env gives the plugin variables, from its next generation on.
func (b *bench) env(settings ...string) {
	b.t.Helper()
	s := b.spec.Clone()
	s.Env = settings
	change, err := b.pool.Prepare(b.t.Context(), []*plugin.Spec{s})
	if err != nil {
		b.t.Fatal(err)
	}
	change.Commit()
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	path := filepath.Join(b.workspace, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) request(task string) Request {
	return Request{RunID: "run-1", Plugin: b.plugin, Workspace: b.workspace, Profile: b.profile, Task: []byte(task)}
}

// run does one run that is closed with the test.
func (b *bench) run(task string) *Run {
	b.t.Helper()
	run, err := b.runner.Run(b.t.Context(), b.request(task), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := run.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return run
}

const plainTask = `{"contract":"sop.generator/v1","id":"task-1","goal":"change a.txt","gap":{"type":"code_quality","path":"a.txt","message":"it is old"},"seed":7}`

// corpus writes the corpus of the scaffolds to a directory.
func (b *bench) corpus() {
	b.t.Helper()
	archive, err := txtar.ParseFile("../../../plugins/sandbox-scaffold/testdata/corpus.txtar")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "crlf/") {
			f.Data = bytes.ReplaceAll(f.Data, []byte("\n"), []byte("\r\n"))
		}
		if f.Name == "py/notail.py" {
			f.Data = bytes.TrimSpace(f.Data)
		}
		b.write(f.Name, string(f.Data))
	}
}
