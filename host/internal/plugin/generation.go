package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const (
	maxReply       = 16 << 20 // bytes of one message from a plugin
	maxRequest     = 64 << 20 // bytes of one message to a plugin
	maxHeaders     = 64 << 10
	streamWindow   = 1 << 20 // bytes of one call that a plugin sends before they are read
	connWindow     = 4 << 20 // bytes of all its calls; both fixed: see sdk.Serve
	healthInterval = 10 * time.Millisecond
	killWait       = 2 * time.Second // for the kernel to end a process after SIGKILL
)

// Phase is a step of a generation's life, in order.
type Phase string

// Phases of a start; [PhaseReady] is the last.
const (
	PhaseVerifying   Phase = "verifying"
	PhaseStarting    Phase = "starting"
	PhaseHandshake   Phase = "handshake"
	PhaseDescribing  Phase = "describing"
	PhaseConfiguring Phase = "configuring"
	PhaseHealth      Phase = "waiting for health"
	PhaseAdmitting   Phase = "admitting"
	PhaseReady       Phase = "ready"
)

// generation is one started process of a configured plugin.
type generation struct {
	number    int
	spec      *Spec
	runner    *runner
	client    *goplugin.Client
	connected chan struct{} // closed when connect's goroutine has ended; nil before it began
	conn      *grpc.ClientConn
	described *pluginv1.DescribeResponse
	readyAt   time.Time
	realDir   string // of its directories
	logger    hclog.Logger
	tls       *tls.Config // of the connection; go-plugin adds the plugin's certificate to it
	broker    *goplugin.GRPCBroker
	callback  *callback // nil until configured, and where there is none

	calls    atomic.Int64 // in flight; below zero once retired
	drained  chan struct{}
	stopOnce sync.Once
	stopped  chan struct{}
}

// connect runs go-plugin's start and connection, which take no context: when
// ctx ends first, the process is killed, and that ends them.
func (g *generation) connect(ctx context.Context, phase func(Phase)) error {
	type result struct {
		dispensed
		err error
	}
	done := make(chan result, 1)
	var phaseMu sync.Mutex
	over := false
	g.connected = make(chan struct{})
	go func() {
		defer close(g.connected)
		if _, err := g.client.Start(); err != nil {
			done <- result{err: err}
			return
		}
		phaseMu.Lock()
		if !over {
			phase(PhaseHandshake)
		}
		phaseMu.Unlock()
		protocol, err := g.client.Client()
		if err != nil {
			done <- result{err: err}
			return
		}
		got, err := protocol.Dispense(g.spec.Kind)
		if err != nil {
			done <- result{err: err}
			return
		}
		done <- result{dispensed: got.(dispensed)} //nolint:forcetypeassert // connPlugin returns nothing else
	}()
	select {
	case r := <-done:
		g.conn, g.broker = r.conn, r.broker
		return r.err
	case <-ctx.Done():
		phaseMu.Lock()
		over = true
		phaseMu.Unlock()
		return ctx.Err()
	}
}

// dispensed is the connection itself, from which clients of any kind are made,
// and what the plugin calls back through.
type dispensed struct {
	conn   *grpc.ClientConn
	broker *goplugin.GRPCBroker
}

// connPlugin makes go-plugin hand it out.
type connPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

// GRPCServer implements goplugin.GRPCPlugin; the host serves no plugins.
func (connPlugin) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the host serves no plugins")
}

// GRPCClient implements goplugin.GRPCPlugin.
func (connPlugin) GRPCClient(_ context.Context, broker *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return dispensed{conn, broker}, nil
}

// describe asks what the plugin is and checks that it is what was configured.
func (g *generation) describe(ctx context.Context, hostVersion string) error {
	d, err := pluginv1.NewPluginClient(g.conn).Describe(ctx, &pluginv1.DescribeRequest{HostVersion: hostVersion})
	if err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	g.described = d
	if d.GetKind() != g.spec.Kind {
		return failf(ReasonWrongKind, "%s is a %s plugin, configured as %s", g.spec.Command, clip(printable(d.GetKind())), g.spec.Kind).
			WithRemedy(`configure it as plugin %q "%s", or name another program in command`, clip(printable(d.GetKind())), g.spec.Name)
	}
	for _, v := range d.GetContractVersions() {
		if v == sdk.ContractVersion {
			return nil
		}
	}
	return failf(ReasonContract, "%s speaks plugin contract %v, this host speaks %d", g.spec.Command, d.GetContractVersions(), sdk.ContractVersion).
		WithRemedy("install a release of the plugin for contract %d, or another release of sop", sdk.ContractVersion)
}

// ConfigError is a plugin's refusal of its configuration.
type ConfigError struct {
	Err         *sdk.Error
	Diagnostics []*pluginv1.ConfigDiagnostic
}

// Error returns the message.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the error that it is.
func (e *ConfigError) Unwrap() error { return e.Err }

// configure hands over the configuration, and the way back to the host.
func (g *generation) configure(ctx context.Context, serve Callbacks) error {
	stateDir, err := g.stateDir()
	if err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	broker, err := g.openCallback(serve)
	if err != nil {
		return err
	}
	resp, err := pluginv1.NewPluginClient(g.conn).Configure(ctx, &pluginv1.ConfigureRequest{
		ConfigJson: g.spec.Config, StateDir: stateDir, HostBrokerId: broker,
	})
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	for _, d := range resp.GetDiagnostics() {
		if d.GetLevel() != pluginv1.ConfigDiagnostic_LEVEL_ERROR {
			g.logger.Warn("plugin warns about its configuration", "summary", clip(printable(d.GetSummary())))
			continue
		}
		refused := failf(ReasonConfig, "plugin %s refuses its configuration: %s%s", g.spec.ID(), where(d.GetPath()), clip(printable(d.GetSummary())))
		refused.Remedy = "correct the plugin's config block"
		if d.GetDetail() != "" {
			refused.Remedy += ": " + clip(printable(d.GetDetail()))
		}
		return &ConfigError{Err: refused, Diagnostics: resp.GetDiagnostics()}
	}
	return nil
}

// stateDir is the plugin's own; in a view it ends with it.
func (g *generation) stateDir() (string, error) {
	if g.runner.view != nil {
		return g.runner.view.ownPlaces().Home, nil
	}
	return g.spec.StateDir, os.MkdirAll(g.spec.StateDir, 0o700)
}

// where says which attribute a diagnostic is about, ending in a colon.
func where(path []*pluginv1.PathStep) string {
	var b strings.Builder
	for _, step := range path {
		switch s := step.GetStep().(type) {
		case *pluginv1.PathStep_Name:
			b.WriteString(s.Name + " ")
		case *pluginv1.PathStep_Key:
			b.WriteString(strconv.Quote(s.Key) + " ")
		case *pluginv1.PathStep_Index:
			fmt.Fprintf(&b, "[%d] ", s.Index)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return clip(printable(strings.TrimSpace(b.String()))) + ": "
}

// awaitHealth waits until the plugin says that it serves.
func (g *generation) awaitHealth(ctx context.Context) error {
	for {
		serving, err := g.healthy(ctx)
		if serving || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return failf(ReasonUnhealthy, "plugin %s does not report that it serves", g.spec.ID()).
				WithRemedy("see the plugin's log; raise start_timeout if it needs longer")
		case <-g.runner.exited:
			return errExited
		case <-time.After(healthInterval):
		}
	}
}

// healthy asks for the plugin's health once.
func (g *generation) healthy(ctx context.Context) (bool, error) {
	resp, err := grpc_health_v1.NewHealthClient(g.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
	if err != nil {
		return false, fmt.Errorf("health: %w", err)
	}
	return resp.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING, nil
}

var errExited = errors.New("the process exited")

// explain turns what a start failed with into what an operator can act on: what
// the runner saw counts more than what go-plugin or gRPC made of it.
func (g *generation) explain(ctx context.Context, err error) error {
	var known *sdk.Error
	if errors.As(err, &known) && known.Reason != "" {
		return err
	}
	if g.runner == nil || !g.runner.started() {
		return failf(ReasonLaunch, "start plugin %s: %w", g.spec.ID(), err)
	}
	if g.runner.view != nil && isClosed(g.runner.exited) {
		if e := g.runner.view.viewRefused(g.spec); e != nil {
			return e
		}
	}
	if sdk.FromError(err).Code == codes.Unavailable {
		waitClosed(g.runner.exited, exitNotice) // so that it is told as what it is
	}
	select {
	case failure := <-g.runner.failed:
		if failure.Reason != ReasonExitedEarly {
			return failure
		}
	default:
	}
	select {
	case <-g.runner.exited:
		if e := g.runner.ranOutOfMemory(); e != nil {
			return e
		}
		return failf(ReasonExitedEarly, "plugin %s ended before it was ready: %s", g.spec.ID(), g.runner.exitCause()).
			WithRemedy("see the plugin's log; run `sop plugin restart %s` when it is mended", g.spec.ID())
	default:
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e := failf(ReasonStartTimeout, "plugin %s was not ready within %v", g.spec.ID(), g.spec.StartTimeout)
		if words := g.runner.sink.lastWords(); words != "" {
			e.Message += "; it last said: " + words
		}
		return e.WithRemedy("see the plugin's log; raise start_timeout if it needs longer")
	}
	e := sdk.FromError(err)
	return &sdk.Error{
		Code: codes.FailedPrecondition, Reason: ReasonHandshake,
		Message: fmt.Sprintf("plugin %s cannot be spoken to: %s", g.spec.ID(), clip(printable(e.Message))),
		Remedy:  "check that it is built for this plugin contract; see the plugin's log", Cause: err,
	}
}

// acquire takes part in the generation for one call. It fails once the
// generation is retired.
func (g *generation) acquire() bool {
	for {
		n := g.calls.Load()
		if n < 0 {
			return false
		}
		if g.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends what acquire began.
func (g *generation) release() {
	if g.calls.Add(-1) == math.MinInt64 {
		close(g.drained)
	}
}

// inFlight is the number of calls.
func (g *generation) inFlight() int64 {
	n := g.calls.Load()
	if n < 0 {
		n -= math.MinInt64
	}
	return n
}

// retire lets no further call in, waits for those in flight for at most drain,
// and stops the process. Call it once.
func (g *generation) retire(drain time.Duration) {
	if g.calls.Add(math.MinInt64) == math.MinInt64 {
		close(g.drained)
	}
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-g.drained:
	case <-g.runner.exited:
	case <-timer.C:
		if g.inFlight() == 0 {
			break
		}
		g.logger.Warn("retired plugin did not finish its calls in time", "calls", g.inFlight(), "drain_timeout", drain)
	}
	g.stop(g.spec.StopGrace)
}

// stop ends the process and everything that it started, and removes its
// directory. It asks first, for half the grace each by shutdown call and by
// SIGTERM, and then kills. It returns within grace plus killWait. Concurrent
// and repeated calls wait for the first.
func (g *generation) stop(grace time.Duration) {
	g.stopOnce.Do(func() {
		defer close(g.stopped)
		if g.runner == nil {
			return
		}
		if g.runner.abort() {
			g.end(grace)
		}
		g.cleanUp()
	})
	<-g.stopped
}

// end ends the process.
func (g *generation) end(grace time.Duration) {
	exited := g.runner.exited
	if grace > 0 && g.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), grace/2)
		err := g.conn.Invoke(ctx, "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
		if err == nil || sdk.FromError(err).Code == codes.Unavailable { // it answers, or is gone before it can
			waitClosed(exited, grace/2)
		}
		cancel()
	}
	if grace > 0 && !isClosed(exited) {
		if err := g.runner.signal(syscall.SIGTERM); err != nil {
			g.logger.Warn("terminate plugin", "error", err)
		}
		waitClosed(exited, grace/2)
	}
	if !isClosed(exited) {
		if grace > 0 {
			g.logger.Warn("plugin did not stop when asked; killed", "grace", grace)
		}
		if err := g.runner.signal(syscall.SIGKILL); err != nil {
			g.logger.Error("kill plugin", "error", err)
		}
	}
	if !waitClosed(g.runner.reaped, killWait) {
		g.logger.Error("plugin still runs after SIGKILL", "pid", g.runner.ID())
	}
}

// cleanUp lets go-plugin end its goroutines and removes the directory.
func (g *generation) cleanUp() {
	g.callback.close()
	if g.connected != nil && !waitClosed(g.connected, killWait) {
		g.logger.Warn("go-plugin did not give up the start of an ended plugin")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.client.Kill()
	}()
	if !waitClosed(done, killWait) {
		g.logger.Warn("go-plugin did not let go of an ended plugin")
	}
	if g.runner.view != nil {
		g.runner.view.close()
	}
	if err := g.runner.confinedBy().remove(); err != nil {
		g.logger.Warn("remove the plugin's cgroup", "error", err)
	}
	if dir := g.runner.directory(); dir != "" {
		if g.runner.containmentLevel() == ProcessGroup {
			if _, err := endStrays(filepath.Join(g.realDir, filepath.Base(dir))); err != nil {
				g.logger.Warn("end the plugin's detached descendants", "error", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			g.logger.Warn("remove the plugin's directory", "dir", filepath.Base(dir), "error", err)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// waitClosed says whether c was closed within d.
func waitClosed(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return isClosed(c)
	}
}
