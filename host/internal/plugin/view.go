package plugin

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/sdk"
)

// A View is where a dedicated generation runs: in a sandbox, on a copy-on-write
// view of a workspace.
type View struct {
	Runner *sandbox.Runner
	// Spec says how the view is made: Profile, Workspace, Patch. What is to run
	// in it is for the pool to say.
	Spec sandbox.Spec
}

// LevelVariable tells a plugin in a view the level that is in force; it is set in
// views only.
const LevelVariable = "SOP_LEVEL"

// viewed is one plugin process in a view. It implements running.
type viewed struct {
	View
	life   context.Context //nolint:containedctx // of the run, which outlives the call that starts it
	cancel context.CancelFunc

	callback string // the directory where the host listens, by its true path

	inForce chan struct{} // closed when the sandbox is in force
	done    chan struct{} // closed when nothing of the run is alive; it has an outcome then

	mu      sync.Mutex // guards what follows
	begun   bool
	places  sandbox.Places
	sockets *os.File // the directory where the plugin listens; nil until in force
	socket  *os.File // that of the plugin; nil until it is known

	// Once done.
	outcome *sandbox.Outcome // nil with err
	err     error
}

func newViewed(ctx context.Context, view View) *viewed {
	v := &viewed{View: view, inForce: make(chan struct{}), done: make(chan struct{})}
	v.life, v.cancel = context.WithCancel(ctx)
	return v
}

// start begins the run. What the plugin writes goes to stdout and stderr, which
// are closed when it is over.
func (v *viewed) start(r *runner, stdout, stderr *os.File) error {
	program, err := duplicate(r.bin.file) // the run may outlast the start
	if err != nil {
		return err
	}
	spec := v.Spec
	spec.Argv = append([]string{r.spec.Command}, r.spec.Args...)
	spec.Env, spec.Stdin = nil, nil
	spec.Service = &sandbox.Service{
		Program: program, Script: r.bin.script,
		Env: func(own sandbox.Places) []string {
			return append(viewEnvironment(r.spec, r.env, own), LevelVariable+"="+string(spec.Profile.Level))
		},
		Ready: func(own sandbox.Places, sockets *os.File) {
			v.mu.Lock()
			v.places, v.sockets = own, sockets
			v.mu.Unlock()
			close(v.inForce)
		},
		Callback: v.callback, Stdout: stdout, Stderr: stderr,
	}
	v.mu.Lock()
	v.begun = true
	v.mu.Unlock()
	go func() {
		defer close(v.done)
		v.outcome, v.err = v.Runner.Run(v.life, spec)
		v.err = errors.Join(v.err, program.Close(), stdout.Close(), stderr.Close())
	}()
	return nil
}

// hasBegun says whether there is a run, which will be done.
func (v *viewed) hasBegun() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.begun
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	runtime.KeepAlive(f)
	if err != nil {
		return nil, fmt.Errorf("duplicate the program's descriptor: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// viewEnvironment is what the plugin sees beside the sandbox's own.
func viewEnvironment(spec *Spec, handshake []string, own sandbox.Places) []string {
	env := spec.environment()
	for _, kv := range handshake {
		if strings.HasPrefix(kv, goplugin.EnvUnixSocketDir+"=") {
			kv = goplugin.EnvUnixSocketDir + "=" + own.Sockets
		}
		env = append(env, kv)
	}
	return env
}

// pid implements running: in a view nobody asks for it.
func (v *viewed) pid() int { return 0 }

// await implements running.
func (v *viewed) await() (bool, error) {
	<-v.done
	return v.err == nil && v.outcome.Status != sandbox.Exited, nil
}

// reap implements running.
func (v *viewed) reap() (string, error) {
	if v.err != nil {
		return "", v.err
	}
	return endOf(&v.outcome.Result), nil
}

// close lets go of the sockets, when nobody will connect any more.
func (v *viewed) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range []*os.File{v.sockets, v.socket} {
		if f != nil {
			_ = f.Close() // a name only
		}
	}
}

// signal implements running: what is in a view is killed, or nothing is.
func (v *viewed) signal(syscall.Signal) error {
	v.cancel()
	return nil
}

// endOf says how a run ended.
func endOf(r *sandbox.Result) string {
	switch {
	case r.Refusal != nil:
		return "the sandbox was refused at " + r.Refusal.String()
	case r.Status == sandbox.Exited:
		return fmt.Sprintf("exit status %d", r.Exit)
	case r.Status == sandbox.Killed:
		return "signal: " + r.Signal
	case r.Status == sandbox.Limited:
		return "ended at its limit of " + strings.Join(r.Limits, " and ")
	}
	return r.Status.String()
}

// isInForce waits for the sandbox, or for its end.
func (v *viewed) isInForce() bool {
	select {
	case <-v.inForce:
		return true
	case <-v.done:
		return isClosed(v.inForce)
	}
}

// reach returns where the host finds the plugin's socket.
func (v *viewed) reach(addr string) (string, error) {
	if !v.isInForce() {
		return "", errExited
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if path.Dir(path.Clean(addr)) != v.places.Sockets {
		return "", sdk.Errorf(codes.FailedPrecondition, ReasonHandshake, "the plugin listens at %s, outside of its directory", clip(addr)).
			WithRemedy("listen in the directory that PLUGIN_UNIX_SOCKET_DIR names")
	}
	if v.socket == nil {
		var err error
		if v.socket, err = sandbox.OpenSocket(v.sockets, path.Base(addr)); err != nil {
			return "", sdk.Errorf(codes.FailedPrecondition, ReasonHandshake, "the plugin's socket: %w", err)
		}
	}
	return fmt.Sprintf("/proc/self/fd/%d", v.socket.Fd()), nil
}

// ownPlaces are those of the plugin; zero until in force.
func (v *viewed) ownPlaces() sandbox.Places {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.places
}

// hasWayBack says whether the plugin can connect to a socket of the host. At
// landlock it could connect to any that its user may, and so to none.
func (v *viewed) hasWayBack() bool {
	return v.Spec.Profile.Level == sandbox.LevelStrict || v.Spec.Profile.Level == sandbox.LevelNSNoProc
}

// letIn lets the user of sandboxes connect to a socket of the host in a private
// directory, which nobody else can reach.
func letIn(socket string) error {
	return errors.Join(
		os.Chmod(filepath.Dir(socket), 0o711), //nolint:gosec // the directory above it is the host's alone
		os.Chmod(socket, 0o666),               //nolint:gosec // likewise, and a certificate is asked for
	)
}

// viewRefused is what kept a view from being had; nil where nothing did.
func (v *viewed) viewRefused(spec *Spec) *sdk.Error {
	<-v.done
	switch {
	case v.err != nil:
		return failf(ReasonSandbox, "plugin %s was not started in a view: %w", spec.ID(), v.err)
	case v.outcome.Refusal != nil && v.outcome.Refusal.Stage == launch.StageExec:
		return failf(ReasonNotExecutable, "plugin %s: %s", spec.ID(), v.outcome.Refusal).
			WithRemedy("let everybody execute the plugin's program; show it its interpreter or dynamic loader with read_only in the sandbox_profile")
	case v.outcome.Refusal != nil:
		return failf(ReasonSandbox, "plugin %s was not started in a view at level %s, refused at %s", spec.ID(), v.Spec.Profile.Level, v.outcome.Refusal).
			WithRemedy("`sop sandbox probe` says which levels this machine has; name another level in the profile")
	}
	return nil
}

// clientCertificate is go-plugin's AutoMTLS convention, without its P-521
// certificate: see sdk.NewIdentity.
func clientCertificate(cert []byte) string {
	return "PLUGIN_CLIENT_CERT=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
}
