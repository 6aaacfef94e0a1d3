package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// pipeGrace is how long output may still be read after the process has exited:
// a descendant that detached itself may hold the pipe for ever.
const pipeGrace = 200 * time.Millisecond

// runner implements go-plugin's runner.Runner for one process. It owns the
// process's pipes: go-plugin is given the handshake line, once it has been
// checked, and nothing else.
type runner struct {
	launcher *process.Launcher
	spec     *Spec
	bin      *binary
	sink     *logSink
	// sandboxLauncher finds sop-sandbox; called for a plugin with a sandbox only.
	sandboxLauncher func() (string, error)
	boxed           *boxed  // set by Start; nil without a sandbox
	view            *viewed // where it is started; nil for the host itself

	mu          sync.Mutex // guards what follows
	env         []string
	dir         string
	process     running // nil until started
	containment Containment
	confined    confinement
	sandbox     Sandbox // once the plugin has been executed
	outOfMemory bool    // the kernel killed it for want of memory; set before exited is closed
	pidsRefused int64   // processes and threads that it was not let start; likewise
	startedAt   time.Time
	aborted     bool // is not to be started any more
	isReaped    bool

	handshakeR *io.PipeReader
	handshakeW *io.PipeWriter
	emptyR     *io.PipeReader
	failed     chan *sdk.Error // holds what was wrong with the handshake

	exited  chan struct{} // closed at once when the process has exited
	reaped  chan struct{} // closed when it has been reaped and its output read
	cause   string        // how it ended, once reaped
	output  sync.WaitGroup
	stdoutR *os.File
	stderrR *os.File
}

func newRunner(l *process.Launcher, spec *Spec, bin *binary, sink *logSink, c confinement) *runner {
	r := &runner{
		launcher: l, spec: spec, bin: bin, sink: sink, confined: c,
		failed: make(chan *sdk.Error, 1), exited: make(chan struct{}), reaped: make(chan struct{}),
	}
	r.handshakeR, r.handshakeW = io.Pipe()
	var w *io.PipeWriter
	r.emptyR, w = io.Pipe()
	_ = w.Close() // never fails
	return r
}

// prepare takes what go-plugin adds before it calls Start.
func (r *runner) prepare(env []string, dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.env, r.dir = env, dir
}

// directory returns the generation's own directory; empty until prepared.
func (r *runner) directory() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dir
}

// pid returns the process id; 0 until started.
func (r *runner) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return 0
	}
	return r.process.pid()
}

// started says whether there is, or was, a process.
func (r *runner) started() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process != nil
}

// abort makes a Start that has not happened fail. It says whether there is a
// process.
func (r *runner) abort() (started bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted = true
	return r.process != nil
}

// Start implements runner.Runner.
func (r *runner) Start(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.aborted {
		return errors.New("start was given up")
	}
	stdoutR, stdoutW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	stderrR, stderrW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make pipe: %w", err), stdoutR.Close(), stdoutW.Close())
	}
	r.startedAt = time.Now()
	if r.view != nil {
		if err := r.view.start(r, stdoutW, stderrW); err != nil {
			return errors.Join(err, stdoutR.Close(), stdoutW.Close(), stderrR.Close(), stderrW.Close())
		}
		r.follow(r.view, stdoutR, stderrR)
		return nil
	}
	process, containment, err := r.launchLocked(stdoutW, stderrW)
	if closeErr := errors.Join(stdoutW.Close(), stderrW.Close(), r.boxed.started()); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		r.boxed.close()
		return errors.Join(r.launchFailure(err), stdoutR.Close(), stderrR.Close())
	}
	r.containment = containment
	r.follow(hostProcess{process}, stdoutR, stderrR)
	return nil
}

// follow takes care of a process that has been started. r.mu is held.
func (r *runner) follow(p running, stdout, stderr *os.File) {
	r.process, r.stdoutR, r.stderrR = p, stdout, stderr
	r.output.Go(func() { r.sink.consume(stderr) })
	r.output.Go(r.readStdout)
	go r.watch(p)
}

// launchLocked starts the process in its cgroup. Where it cannot be placed there
// and no limit was asked for, it is started without. r.mu is held.
func (r *runner) launchLocked(stdout, stderr *os.File) (*os.Process, Containment, error) {
	req := &launchRequest{
		bin: r.bin, group: r.confined.group, argv: append([]string{r.spec.Command}, r.spec.Args...),
		env: r.env, dir: r.dir, out: stdout, err: stderr,
	}
	var err error
	if r.boxed, err = r.box(req.argv); err != nil {
		return nil, "", err
	}
	req.box = r.boxed
	process, containment, err := start(r.launcher, req)
	var place *cgroup.PlaceError
	if !errors.As(err, &place) {
		return process, containment, err
	}
	if (r.spec.Limits != Limits{}) {
		return nil, "", limitsRefused(r.spec, err)
	}
	removed := r.confined.remove()
	r.confined = confinement{refused: errors.Join(err, removed).Error()}
	req.group = nil
	return start(r.launcher, req)
}

// launchFailure says why the kernel would not run the program.
func (r *runner) launchFailure(err error) *sdk.Error {
	var known *sdk.Error
	if errors.As(err, &known) {
		return known
	}
	e := failf(ReasonLaunch, "start %s: %w", r.spec.Command, err)
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		e.Reason, e.Remedy = ReasonNotExecutable, "install a program for this machine, or give the script a #! line"
	case errors.Is(err, syscall.ENOENT):
		e.Reason, e.Remedy = ReasonNotExecutable, "install the interpreter or dynamic loader that the program names"
	case errors.Is(err, syscall.ETXTBSY):
		e.Remedy = "the program is being written; install plugins by renaming a finished file into place"
	case errors.Is(err, syscall.EACCES):
		e.Reason, e.Remedy = ReasonNotExecutable, "let the user that runs sop execute it, and check that its file system is not mounted noexec"
	}
	return e
}

// readStdout takes the handshake line and drains the rest.
func (r *runner) readStdout() {
	in := bufio.NewReaderSize(r.stdoutR, handshakeLimit)
	line, err := readHandshake(in)
	failure := r.checkHandshake(line, err)
	if failure != nil && failure.Reason == ReasonExitedEarly {
		waitClosed(r.exited, exitNotice) // its output has ended: so will it, before go-plugin has it killed
	}
	if failure = r.enterSandbox(failure); failure != nil {
		r.failed <- failure
		_ = r.handshakeW.CloseWithError(failure) // never fails
	} else {
		_, _ = io.WriteString(r.handshakeW, line+"\n") // fails only when go-plugin has stopped reading
		_ = r.handshakeW.Close()                       // never fails
	}
	n, _ := io.Copy(io.Discard, in) // ends with the process or with the read deadline
	if n > 0 {
		r.sink.logger.Warn("plugin wrote to standard output, which belongs to the handshake; discarded", "bytes", n)
	}
}

// checkHandshake says what is wrong with what the plugin printed first: see
// go-plugin's "core|protocol|network|address|transport|certificate".
func (r *runner) checkHandshake(line string, err error) *sdk.Error {
	const remedy = "name a SOP plugin in `command`; plugins are built with the sop sdk, or speak go-plugin's protocol with mutual TLS"
	if line == "" && err != nil {
		return failf(ReasonExitedEarly, "%s ended its output without a handshake", r.spec.Command).WithRemedy(remedy)
	}
	fields := strings.Split(line, "|")
	if len(fields) < 5 || fields[0] != "1" {
		return failf(ReasonHandshake, "%s printed %q instead of a handshake", r.spec.Command, clip(line)).WithRemedy(remedy)
	}
	version, convErr := strconv.Atoi(fields[1])
	switch {
	case convErr != nil:
		return failf(ReasonHandshake, "%s announced protocol version %q", r.spec.Command, clip(fields[1])).WithRemedy(remedy)
	case version > sdk.ContractVersion:
		return failf(ReasonContract, "%s speaks plugin contract %d, this host speaks %d", r.spec.Command, version, sdk.ContractVersion).
			WithRemedy("upgrade sop, or install an older release of the plugin")
	case version < sdk.ContractVersion:
		return failf(ReasonContract, "%s speaks plugin contract %d, this host speaks %d", r.spec.Command, version, sdk.ContractVersion).
			WithRemedy("install a newer release of the plugin")
	case fields[4] != "grpc":
		return failf(ReasonHandshake, "%s speaks %q, the host speaks grpc", r.spec.Command, clip(fields[4])).WithRemedy(remedy)
	case len(fields) < 6 || len(fields[5]) < 50:
		return failf(ReasonHandshake, "%s presented no certificate", r.spec.Command).
			WithRemedy("build the plugin with the sop sdk, or answer PLUGIN_CLIENT_CERT as go-plugin's AutoMTLS does")
	}
	return nil
}

// watch waits for the exit, ends what is left of the group, reaps.
func (r *runner) watch(p running) {
	defer close(r.reaped)
	pid := p.pid()
	killed, err := p.await()
	if err != nil {
		r.sink.logger.Error("wait for plugin", "pid", pid, "error", err)
	}
	confined := r.confinedBy()
	outOfMemory, refused := killed && confined.group != nil && confined.group.OOMKills() > 0, confined.usage().PIDsRefused
	r.mu.Lock()
	r.outOfMemory, r.pidsRefused = outOfMemory, refused
	r.mu.Unlock()
	close(r.exited)
	if err := p.signal(syscall.SIGKILL); err != nil {
		r.sink.logger.Warn("end the plugin's process group", "pid", pid, "error", err)
	}
	if err := confined.kill(); err != nil {
		r.sink.logger.Warn("end what the plugin left in its cgroup", "error", err)
	}
	r.mu.Lock()
	r.cause, err = p.reap()
	r.isReaped = true
	r.mu.Unlock()
	if err != nil {
		r.sink.logger.Error("reap plugin", "pid", pid, "error", err)
	}
	r.finishOutput()
}

// finishOutput reads what the pipes still hold, for at most pipeGrace.
func (r *runner) finishOutput() {
	deadline := time.Now().Add(pipeGrace)
	for _, f := range []*os.File{r.stdoutR, r.stderrR} {
		if err := f.SetReadDeadline(deadline); err != nil {
			_ = f.Close() // ends the reader all the same
		}
	}
	r.output.Wait()
	_ = r.stdoutR.Close() // read to its end
	_ = r.stderrR.Close() // read to its end
	r.boxed.close()
}

// signal signals the process and its group, unless it has been reaped.
func (r *runner) signal(sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isReaped || r.process == nil {
		return nil
	}
	return r.process.signal(sig)
}

// Wait implements runner.Runner.
func (r *runner) Wait(context.Context) error {
	<-r.reaped
	return nil
}

// Kill implements runner.Runner.
func (r *runner) Kill(context.Context) error { return r.signal(syscall.SIGKILL) }

// Stdout implements runner.Runner: the handshake line and then the end.
func (r *runner) Stdout() io.ReadCloser { return r.handshakeR }

// Stderr implements runner.Runner: nothing. go-plugin's reader of log lines
// panics on a JSON line whose message is no string; ours does not.
func (r *runner) Stderr() io.ReadCloser { return r.emptyR }

// Name implements runner.Runner.
func (r *runner) Name() string { return r.spec.Command }

// ID implements runner.Runner. Without one go-plugin takes it that nothing was
// started, and lets go of nothing.
func (r *runner) ID() string {
	if r.view != nil {
		return "view"
	}
	if pid := r.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// Diagnose implements runner.Runner.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.AddrTranslator. The plugin works in its socket
// directory and names sockets relative to it, so that a long data_dir does not
// exceed what a socket address can hold.
func (r *runner) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" {
		return network, addr, nil
	}
	if r.view != nil {
		addr, err := r.view.reach(addr)
		if err != nil && !errors.Is(err, errExited) {
			select {
			case r.failed <- sdk.FromError(err): // go-plugin kills what it cannot connect to, and tells no more
			default:
			}
		}
		return network, addr, err
	}
	dir := filepath.Clean(r.directory())
	if !filepath.IsAbs(addr) {
		addr = filepath.Join(dir, addr)
	}
	if filepath.Dir(filepath.Clean(addr)) != dir {
		return "", "", sdk.Errorf(codes.FailedPrecondition, ReasonHandshake, "%s listens at %s, outside its directory", r.spec.Command, clip(addr)).
			WithRemedy("listen in the directory that PLUGIN_UNIX_SOCKET_DIR names")
	}
	return network, addr, nil
}

// HostToPlugin implements runner.AddrTranslator.
func (r *runner) HostToPlugin(network, addr string) (string, string, error) {
	if network == "unix" && filepath.Dir(addr) == filepath.Clean(r.directory()) {
		if r.view != nil {
			return network, sandbox.CallbackDir + "/" + filepath.Base(addr), nil
		}
		return network, "./" + filepath.Base(addr), nil
	}
	return network, addr, nil
}

// exitCause says how the process ended. Call it after exited; it waits for the
// last output, which is bounded by pipeGrace.
func (r *runner) exitCause() string {
	<-r.reaped
	r.mu.Lock()
	cause := r.cause
	r.mu.Unlock()
	words := r.sink.lastWords()
	if cause == "signal: killed" || cause == "signal: terminated" { // by another: nothing that it said is why
		words = r.sink.crashWords()
	}
	if words != "" {
		cause += ": " + words
	}
	return cause
}

// ranOutOfMemory says so as an error where the kernel killed the process for
// that; else it returns nil. Call it after exited.
func (r *runner) ranOutOfMemory() *sdk.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.outOfMemory {
		return nil
	}
	return r.confined.outOfMemory(r.spec.ID())
}

// crashRemedy says what to do about an exit that nothing else explains. Call it
// after exited.
func (r *runner) crashRemedy() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pidsRefused > 0 {
		return fmt.Sprintf("it was not let start %d processes or threads: raise limits.pids if it needs more; see the plugin's log for the rest", r.pidsRefused)
	}
	return "see the plugin's log for the cause"
}

// confinedBy returns the process's cgroup.
func (r *runner) confinedBy() confinement {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.confined
}

// containmentLevel returns how the process is contained; empty until started.
func (r *runner) containmentLevel() Containment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.containment
}
