package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Exit codes of the generator contract.
const (
	exitChanged = 0
	exitCrashed = 1 // and every other
	exitNothing = 10
	exitPerson  = 11
	exitBudget  = 20
	exitBadTask = 30
	exitOutput  = 123 // of the host's, and so are those about it
	exitTimeout = 124
)

// generator is the sandbox.
type generator struct{ settings atomic.Pointer[settings] }

func newGenerator() *generator { return &generator{} }

// levelVariable is set where the plugin runs in a view; what it starts is
// isolated there and nowhere else.
const levelVariable = "SOP_LEVEL"

// Generate implements [sandbox.Sandbox]: it runs the configured command in the
// work directory.
func (g *generator) Generate(ctx context.Context, req *pluginv1.GenerateRequest, send func(*pluginv1.GenerateResponse) error) (*pluginv1.GenerateResult, error) {
	s := g.settings.Load()
	if s == nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "NOT_CONFIGURED", "there is no command to run")
	}
	if os.Getenv(levelVariable) == "" {
		return nil, sdk.Errorf(codes.FailedPrecondition, "NOT_ISOLATED", "this process is in no sandbox, and what it starts would be in none").
			WithRemedy("let the host run it: `sop sandbox generate`, or a task")
	}
	// What it starts has its user, and must not read or steer it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("dumpable: %w", err)
	}
	t, all, err := readTask(req.GetTaskJson())
	if err != nil {
		return nil, err
	}
	prompt, err := s.promptFor(all)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(req.GetWorkDir()) {
		return nil, sdk.Errorf(codes.InvalidArgument, "BAD_WORK_DIR", "the work directory %q is no absolute path", req.GetWorkDir())
	}
	files, err := newFiles(req.GetTaskJson(), prompt)
	if err != nil {
		return nil, err
	}
	r := &run{settings: s, task: t, req: req, prompt: prompt, files: files, send: send}
	result, err := r.do(ctx)
	return result, errors.Join(err, files.remove())
}

// files are those of the contract.
type files struct{ dir, task, prompt, out string }

func newFiles(task, prompt []byte) (f *files, err error) {
	dir, err := os.MkdirTemp("", "sop-generator-")
	if err != nil {
		return nil, err
	}
	f = &files{dir: dir, task: filepath.Join(dir, "task.json"), prompt: filepath.Join(dir, "prompt.txt"), out: filepath.Join(dir, "out")}
	err = errors.Join(os.WriteFile(f.task, task, 0o400), os.WriteFile(f.prompt, prompt, 0o400), os.Mkdir(f.out, 0o700))
	if err != nil {
		return nil, errors.Join(err, f.remove())
	}
	return f, nil
}

func (f *files) remove() error { return os.RemoveAll(f.dir) }

// ownVariables are what every command gets of the plugin's environment.
var ownVariables = []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ"}

var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}

// cachePrefix is where the host shows caches; variables that point there say
// so to the tools that use them.
const cachePrefix = "/cache/"

// environment is the whole environment of the command.
func (r *run) environment() []string {
	var env []string
	for _, setting := range os.Environ() {
		name, value, _ := strings.Cut(setting, "=")
		if passes(name, r.settings.EnvPass) || strings.HasPrefix(value, cachePrefix) {
			env = append(env, setting)
		}
	}
	return append(env, "SOP_TASK="+r.files.task, "SOP_PROMPT="+r.files.prompt, "SOP_OUT="+r.files.out,
		"SOP_RUN_ID="+r.req.GetRunId(), fmt.Sprintf("SOP_SEED=%d", r.task.Seed), levelVariable+"="+os.Getenv(levelVariable))
}

func passes(name string, more []string) bool {
	for _, list := range [][]string{ownVariables, proxyVariables, more} {
		for _, each := range list {
			if each == name {
				return true
			}
		}
	}
	return false
}

// argv is the command with what the placeholders stand for.
func (r *run) argv() []string {
	fill := strings.NewReplacer("{prompt}", string(r.prompt), "{prompt_file}", r.files.prompt, "{task_file}", r.files.task, "{out}", r.files.out)
	argv := make([]string, len(r.settings.Command))
	for i, arg := range r.settings.Command {
		argv[i] = fill.Replace(arg)
	}
	return argv
}

// timeout is the least of what was asked for.
func (r *run) timeout() time.Duration {
	limit := r.req.GetLimits().GetWallClock().AsDuration()
	if own := r.settings.timeout; own > 0 && (limit <= 0 || own < limit) {
		return own
	}
	return limit
}
