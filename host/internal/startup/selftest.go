package startup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/socket"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// SelfTesting says how to test.
type SelfTesting struct {
	PluginsDir string
	Version    string
	// OnStep is called when a step has ended; nil is fine.
	OnStep func(SelfTestStep)
}

// Outcomes of a step.
const (
	StepPassed  = "passed"
	StepFailed  = "failed"
	StepSkipped = "skipped" // it cannot be had here, or what it builds on has failed
)

// SelfTestStep is what came of one step.
type SelfTestStep struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// Detail says what was seen, why it failed, or why it was skipped.
	Detail string        `json:"detail"`
	Remedy string        `json:"remedy,omitempty"`
	Took   time.Duration `json:"took_ns"`
}

// SelfTestReport is what came of all.
type SelfTestReport struct {
	Passed bool           `json:"passed"` // no step failed
	Steps  []SelfTestStep `json:"steps"`
	Took   time.Duration  `json:"took_ns"`
}

// selfTest is a scratch host: a real one, with a configuration, a workspace, a
// store and plugins of its own, in a directory that is gone in the end.
type selfTest struct {
	SelfTesting
	dir    string // empty: not made
	report *SelfTestReport
	broken bool // there is no host to go on with

	stop context.CancelFunc // nil: no host was started
	done chan error
	http *http.Transport
	apis selfTestAPIs
}

type selfTestAPIs struct {
	host      apiv1connect.HostClient
	token     apiv1connect.TokenClient
	workspace apiv1connect.WorkspaceClient
	gap       apiv1connect.GapClient
	backup    apiv1connect.BackupClient
	audit     apiv1connect.AuditClient
}

// skippedError is the error of a step that cannot be had here.
type skippedError struct{ why string }

// Error implements error.
func (e skippedError) Error() string { return e.why }

const (
	serviceLimit = 30 * time.Second // until all is in service
	endLimit     = 20 * time.Second // until the scratch host has ended
)

// SelfTest runs a host in a scratch directory and tries out what a host is for,
// under `test` tokens. It needs no configuration, goes beside a host that runs,
// and leaves nothing behind.
func SelfTest(ctx context.Context, opt SelfTesting) *SelfTestReport {
	begin := time.Now()
	t := &selfTest{SelfTesting: opt, report: &SelfTestReport{Passed: true}}
	for _, s := range []struct {
		name  string
		needs bool // a host
		run   func(context.Context) (string, error)
	}{
		{"prepare", false, t.prepare},
		{"start", true, t.start},
		{"tokens", true, t.tokens},
		{"gaps", true, t.gaps},
		{"backup", true, t.backups},
		{"sandbox", false, t.sandbox},
		{"audit", true, t.audit},
	} {
		if s.needs && t.broken {
			t.tell(SelfTestStep{Name: s.name, State: StepSkipped, Detail: "there is no host to test"})
			continue
		}
		err := t.step(ctx, s.name, s.run)
		t.broken = t.broken || err != nil && (s.name == "prepare" || s.name == "start")
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	_ = t.step(ending, "stop", t.end) // it stands in the report
	t.report.Took = time.Since(begin)
	return t.report
}

// step runs one step and tells of it.
func (t *selfTest) step(ctx context.Context, name string, run func(context.Context) (string, error)) error {
	begin := time.Now()
	detail, err := "", ctx.Err()
	if err == nil {
		detail, err = run(ctx)
	}
	s := SelfTestStep{Name: name, State: StepPassed, Detail: detail, Took: time.Since(begin)}
	var skip skippedError
	switch {
	case errors.As(err, &skip):
		s.State, s.Detail, err = StepSkipped, skip.why, nil
	case err != nil:
		e := explained(err)
		s.State, s.Detail, s.Remedy = StepFailed, e.Message, e.Remedy
	}
	t.tell(s)
	return err
}

// explained is an error as its host, or this process, means it.
func explained(err error) *sdk.Error {
	var own *sdk.Error
	var wire *connect.Error
	if errors.As(err, &own) {
		return own
	}
	if errors.As(err, &wire) {
		return apierr.Decode(wire)
	}
	return sdk.FromError(err)
}

func (t *selfTest) tell(s SelfTestStep) {
	t.report.Steps = append(t.report.Steps, s)
	t.report.Passed = t.report.Passed && s.State != StepFailed
	if t.OnStep != nil {
		t.OnStep(s)
	}
}

func (t *selfTest) config() string { return filepath.Join(t.dir, "config.hcl") }
func (t *selfTest) data() string   { return filepath.Join(t.dir, "data") }
func (t *selfTest) work() string   { return filepath.Join(t.dir, "work") }

// selfTestConfig governs the scratch workspace with bundled plugins; paths are
// relative to it.
const selfTestConfig = `host {
  data_dir = "data"
}

workspace "selftest" {
  path = "work"
  scan {
    on_start = false
    interval = "0s"
  }
}

plugin "detector" "docs" {
  command = "${path.plugins}/detector-docs"
}

plugin "detector" "code" {
  command = "${path.plugins}/detector-code"
}

plugin "backup" "files" {
  command = "${path.plugins}/backup-files"
}
`

// prepare makes the scratch directory with all that the host needs.
func (t *selfTest) prepare(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "sop-selftest-")
	if err != nil {
		return "", sdk.Errorf(codes.FailedPrecondition, "SELFTEST_SCRATCH", "make a scratch directory: %w", err).
			WithRemedy("make $TMPDIR, or %s, a directory that this user may write to", os.TempDir())
	}
	t.dir = dir
	if err := os.WriteFile(t.config(), []byte(selfTestConfig), 0o600); err != nil {
		return "", err
	}
	if err := writeSelfTestTree(t.work()); err != nil {
		return "", err
	}
	if t.PluginsDir, err = filepath.Abs(t.PluginsDir); err != nil {
		return "", err
	}
	changes, err := Lock(ctx, t.config(), t.PluginsDir, t.Version, false)
	if err != nil {
		return "", sdk.Errorf(codes.FailedPrecondition, "SELFTEST_PLUGINS", "the bundled plugins in %s cannot be used: %w", t.PluginsDir, err).
			WithRemedy("install sop with its plugins, build it with `make build`, or name their directory with --plugins-dir")
	}
	return fmt.Sprintf("a workspace with known gaps, %s locked", numbered(len(changes), "plugin")), nil
}

// start starts the host and waits until it is ready, all its plugins included.
func (t *selfTest) start(ctx context.Context) (string, error) {
	hosting, stop := context.WithCancel(context.WithoutCancel(ctx)) // it is ended in order, whatever becomes of ctx
	t.stop, t.done = stop, make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		t.done <- Run(hosting, Options{ConfigPath: t.config(), PluginsDir: t.PluginsDir, Version: t.Version, OnStep: func(s Step) {
			if s.Component == "host" && s.Phase == "ready" {
				close(ready)
			}
		}})
	}()
	select {
	case <-ready:
	case err := <-t.done:
		t.stop = nil
		return "", errors.Join(errors.New("the host did not start"), err)
	case <-ctx.Done():
		return "", ctx.Err()
	}
	t.http = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return api.Dial(ctx, socket.Path(t.data()))
	}}
	const base = "http://sop"
	client := &http.Client{Transport: t.http}
	t.apis = selfTestAPIs{
		host: apiv1connect.NewHostClient(client, base), token: apiv1connect.NewTokenClient(client, base),
		workspace: apiv1connect.NewWorkspaceClient(client, base), gap: apiv1connect.NewGapClient(client, base),
		backup: apiv1connect.NewBackupClient(client, base), audit: apiv1connect.NewAuditClient(client, base),
	}
	return t.awaitOK(ctx)
}

// end stops the host, sees that it has left nothing, and removes the scratch
// directory.
func (t *selfTest) end(ctx context.Context) (string, error) {
	var failed []error
	if t.stop != nil {
		t.stop()
		select {
		case err := <-t.done:
			failed = append(failed, err)
		case <-ctx.Done():
			failed = append(failed, sdk.Errorf(codes.DeadlineExceeded, "SELFTEST_HANGS", "the host did not end within %s", endLimit).
				WithRemedy("its log is in %s, which is left", t.data()))
			t.dir = ""
		}
	}
	if t.http != nil {
		t.http.CloseIdleConnections()
	}
	if t.stop != nil && t.dir != "" {
		failed = append(failed, leftNothing(dataDir(t.data())))
	}
	if t.dir != "" {
		failed = append(failed, os.RemoveAll(t.dir))
	}
	return "nothing is left", errors.Join(failed...)
}

// leftNothing looks for what a host that has ended should have taken away.
func leftNothing(dir dataDir) error {
	left, err := os.ReadDir(dir.run())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the host left %s in %s", left[0].Name(), dir.run())
	}
	if _, err := os.Lstat(dir.socket()); err == nil {
		return fmt.Errorf("the host left its socket %s", dir.socket())
	}
	return nil
}
