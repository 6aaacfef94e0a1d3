package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/socket"
	"github.com/sop-host/sop/sdk"
)

// ProbeKind is how it is found out that a component is ready.
type ProbeKind string

// The kinds.
const (
	ProbeNone   ProbeKind = "none" // ready once it is started
	ProbeExec   ProbeKind = "exec"
	ProbeHTTP   ProbeKind = "http"
	ProbeTCP    ProbeKind = "tcp"
	ProbeGRPC   ProbeKind = "grpc"   // grpc.health.v1
	ProbeLog    ProbeKind = "log"    // a pattern in what it prints
	ProbeFile   ProbeKind = "file"   // created or written to since it was started
	ProbeNotify ProbeKind = "notify" // as sd_notify says it
)

// Readiness says when a component is ready.
type Readiness struct {
	Kind    ProbeKind
	Exec    []string // of an exec probe
	Target  string   // URL, address, pattern or path
	Socket  string   // of an http probe: the unix socket that is asked; empty: the URL's host
	Service string   // of a grpc probe
	// Interval between two probes, and Timeout of one.
	Interval, Timeout time.Duration
	// Recheck is the time between two probes of what is ready; 0 for none.
	Recheck time.Duration
}

// polled says whether it is asked again and again.
func (r *Readiness) polled() bool {
	switch r.Kind {
	case ProbeExec, ProbeHTTP, ProbeTCP, ProbeGRPC, ProbeFile:
		return true
	case ProbeNone, ProbeLog, ProbeNotify:
	}
	return false
}

// awaitReady waits until the instance is ready, has ended, or its time is over.
func (u *unit) awaitReady(ctx context.Context, i *instance) error {
	since := i.startedAt
	if since.Before(i.adopted) {
		since = i.adopted
	}
	ctx, cancel := context.WithDeadline(ctx, since.Add(i.spec.StartTimeout))
	defer cancel()
	var ready <-chan struct{}
	switch kind := i.spec.Readiness.Kind; { //nolint:staticcheck // the cases differ
	case kind == ProbeNone:
		return nil
	case kind == ProbeNotify:
		ready = i.notify.ready
	case kind == ProbeLog:
		ready = i.reader.matched
	default:
		probing, stop := context.WithCancel(ctx)
		defer stop()
		ready = u.poll(probing, i)
	}
	select {
	case <-ready:
		return nil
	case <-i.exited:
		select {
		case <-ready: // it said so before it ended
			return nil
		default:
		}
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errEnded says that the process ended before it was ready.
var errEnded = errors.New("it ended before it was ready")

// poll probes until one probe passes, and closes the channel then. It ends with
// ctx.
func (u *unit) poll(ctx context.Context, i *instance) <-chan struct{} {
	passed := make(chan struct{})
	u.s.retiring.Go(func() {
		ticker := time.NewTicker(i.spec.Readiness.Interval)
		defer ticker.Stop()
		for {
			if u.probe(ctx, i) == nil && ctx.Err() == nil {
				close(passed)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return passed
}

// probe asks once and notes what came of it.
func (u *unit) probe(ctx context.Context, i *instance) error {
	ctx, cancel := context.WithTimeout(ctx, i.spec.Readiness.Timeout)
	defer cancel()
	begin := time.Now()
	err := u.s.ask(ctx, i)
	p := Probe{At: begin, OK: err == nil, Took: time.Since(begin)}
	if err != nil {
		p.Error = clip(process.Printable(err.Error()))
	}
	u.mu.Lock()
	u.lastProbe = p
	u.mu.Unlock()
	return err
}

func (s *Supervisor) ask(ctx context.Context, i *instance) error {
	r := &i.spec.Readiness
	switch r.Kind {
	case ProbeHTTP:
		return askHTTP(ctx, r.Target, r.Socket)
	case ProbeTCP:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Target)
		if err != nil {
			return err
		}
		return conn.Close()
	case ProbeGRPC:
		return askGRPC(ctx, r.Target, r.Service)
	case ProbeExec:
		return s.askExec(ctx, i)
	case ProbeFile:
		return askFile(r.Target, i.startedAt)
	case ProbeNone, ProbeLog, ProbeNotify:
	}
	return nil
}

// probeClient keeps no connection and follows nobody elsewhere.
var probeClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: time.Minute, DialContext: dialProbe},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// socketKey is under which a request says which socket it goes to.
type socketKey struct{}

func dialProbe(ctx context.Context, network, address string) (net.Conn, error) {
	if path, ok := ctx.Value(socketKey{}).(string); ok {
		return socket.Dial(ctx, path)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

const maxProbeAnswer = 64 << 10

func askHTTP(ctx context.Context, url, socket string) error {
	if socket != "" {
		ctx = context.WithValue(ctx, socketKey{}, socket)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := probeClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read as far as anybody wants
	_, _ = io.CopyN(io.Discard, resp.Body, maxProbeAnswer)
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}

// askGRPC makes a connection of its own: one that failed is not tried again for
// a second, which is longer than some wait.
func askGRPC(ctx context.Context, target, service string) (err error) {
	conn, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("it says %s", resp.GetStatus())
	}
	return nil
}

// clockGrain is how far a file's time may lie behind the clock that it is
// compared with.
const clockGrain = 20 * time.Millisecond

func askFile(path string, since time.Time) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && time.Unix(st.Ctim.Sec, st.Ctim.Nsec).Before(since.Add(-clockGrain)) {
		return fmt.Errorf("%s was there before the component was started", path)
	}
	return nil
}

// askExec runs the probe's command in the component's directory, environment and
// cgroup, and kills it when its time is over.
func (s *Supervisor) askExec(ctx context.Context, i *instance) (err error) {
	r := &i.spec.Readiness
	path, err := exec.LookPath(r.Exec[0])
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, null.Close()) }()
	child, _, err := s.launcher.Start(process.Request{
		Path: path, Argv: r.Exec, Env: s.environment(i), Dir: i.spec.Dir, Files: []*os.File{nil, null, null}, Group: i.confined.group,
	})
	if err != nil {
		return err
	}
	handle, err := process.Open(child.Pid)
	if err == nil {
		if !handle.WaitFor(ctx) {
			err = fmt.Errorf("it did not end within %v", r.Timeout)
		}
		err = errors.Join(err, handle.Close())
	}
	kill := process.SignalGroup(child.Pid, syscall.SIGKILL) // it, or what it has left; it is unreaped
	state, waitErr := child.Wait()
	if err := errors.Join(err, kill, waitErr); err != nil {
		return err
	}
	if exit := process.ExitOf(state); exit.Code != 0 || exit.Signal != 0 {
		return fmt.Errorf("it %s", exit)
	}
	return nil
}

// serve puts a ready instance in service.
func (u *unit) serve(i *instance) {
	recordErr := i.record.ready()
	if recordErr != nil {
		u.s.logger.Warn("record that a component is ready", "component", u.name, "error", recordErr)
	}
	u.step(Event{Instance: i.number, Phase: PhaseReady, PID: i.handle.PID}, func() {
		u.recovering, u.fruitless, u.hindered = false, 0, 0
		if u.idleAt.IsZero() || u.users == 0 {
			u.idleAt = time.Now().Add(u.spec.IdleStop)
		}
		u.setLocked(StateReady, "")
	})
	if i.spec.Readiness.polled() && i.spec.Readiness.Recheck > 0 {
		u.s.retiring.Go(func() { u.recheck(i) })
	}
}

// recheckFailures in a row make a component unready.
const recheckFailures = 3

// recheck probes a ready instance until it ends.
func (u *unit) recheck(i *instance) {
	ctx, cancel := context.WithCancel(u.s.ctx)
	defer cancel()
	ticker := time.NewTicker(i.spec.Readiness.Recheck)
	defer ticker.Stop()
	failures := 0
	for {
		select {
		case <-i.exited:
			return
		case <-ticker.C:
		}
		err := u.probe(ctx, i)
		if i.ended() {
			return
		}
		if err == nil {
			failures = 0
			u.turn(i, StateUnready, StateReady, PhaseReady, nil)
			continue
		}
		if failures++; failures == recheckFailures {
			u.turn(i, StateReady, StateUnready, PhaseUnready, &sdk.Error{
				Code: codes.Unavailable, Reason: ReasonUnready, Retryable: true,
				Message: fmt.Sprintf("component %s was ready and does not pass its probe any more: %s", u.name, clip(process.Printable(err.Error()))),
				Remedy:  "see `sop component logs " + u.name + "`; `sop component restart " + u.name + "` starts it anew",
			})
		}
	}
}

// turn moves an instance from one state to another, if it is in the first.
func (u *unit) turn(i *instance, from, to State, phase Phase, err *sdk.Error) {
	u.mu.Lock()
	if u.instance != i || u.state != from {
		u.mu.Unlock()
		return
	}
	u.setLocked(to, "")
	e := Event{Name: u.name, Instance: i.number, Phase: phase, PID: i.handle.PID}
	if err != nil {
		u.lastErr, u.lastErrAt, u.detail = err, time.Now(), err.Message
		e.Err = err
	}
	u.s.emit(e)
	u.mu.Unlock()
	u.s.changed.Tell()
}

// longestWords bounds what is kept of an error.
const longestWords = 500

func clip(text string) string {
	if len(text) > longestWords {
		return text[:longestWords] + "…"
	}
	return text
}
