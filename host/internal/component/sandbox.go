package component

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/sdk"
)

// boxed is one start under a [Sandbox]: what the stage that becomes the component
// reads, and where it says how far it got.
type boxed struct {
	plan, program *os.File
	report, words *os.File // to read from, and for the stage to write to
	null          *os.File
}

// box turns the start of a program into one of the stage that isolates itself and
// becomes the program: it stays the same process.
func (s *Supervisor) box(i *instance, path string, req *process.Request) (b *boxed, err error) {
	if s.opt.SandboxLauncher == nil {
		return nil, errors.New("this host has no launcher")
	}
	launcher, err := s.opt.SandboxLauncher()
	if err != nil {
		return nil, err
	}
	b = &boxed{}
	defer func() {
		if err != nil {
			err, b = errors.Join(err, b.close()), nil
		}
	}()
	plan := i.spec.Sandbox.Plan
	plan.Argv, plan.Env, plan.Path = req.Argv, req.Env, []string{path}
	plan.Mounts = slices.Clone(plan.Mounts)
	if plan.Script, err = isScript(path); err != nil {
		return nil, err
	}
	if plan.Script {
		plan.Mounts = append(plan.Mounts, shown(path))
	}
	if i.notify != nil {
		plan.Mounts = append(plan.Mounts, shown(i.notify.address))
	}
	if err := b.open(&plan, path); err != nil {
		return nil, err
	}
	if plan.Namespaced() {
		req.Namespace = true
		if os.Geteuid() != 0 {
			req.Caps = plan.StageCaps()
		}
	}
	req.Path, req.Argv, req.Env = launcher, launch.PluginArgs, append(s.marks(i), launch.PluginEnv...)
	req.Files = append(slices.Clone(req.Files), launch.PluginFiles(b.null, b.plan, b.program, b.words)...)
	return b, nil
}

// open opens what the stage is handed.
func (b *boxed) open(plan *launch.Plan, path string) (err error) {
	if b.null, err = os.Open(os.DevNull); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	b.program = os.NewFile(uintptr(fd), path)
	if b.plan, err = launch.SealedPlan(plan); err != nil {
		return fmt.Errorf("write the plan of the sandbox: %w", err)
	}
	b.report, b.words, err = os.Pipe()
	return err
}

// started lets go of what the stage has by now.
func (b *boxed) started() error {
	var failed []error
	for _, f := range []**os.File{&b.plan, &b.program, &b.words, &b.null} {
		if *f != nil {
			failed = append(failed, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(failed...)
}

func (b *boxed) close() error {
	err := b.started()
	if b.report == nil {
		return err
	}
	return errors.Join(err, b.report.Close())
}

// shown is a file at its own place in the view.
func shown(path string) launch.Mount {
	return launch.Mount{Tree: launch.Tree{Path: path}, Target: path}
}

// isScript says whether a program is opened by its interpreter, by name. One that
// cannot be read is none.
func isScript(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	var mark [2]byte
	if _, err := io.ReadFull(f, mark[:]); err != nil {
		return false, nil // it is shorter than a script
	}
	return string(mark[:]) == "#!", nil
}

// reportWait bounds the wait for the stage to become the component.
const reportWait = 5 * time.Second

// inForce returns what is in force once the stage has become the component, or why
// it has not.
func (b *boxed) inForce(spec *Spec) (InForce, error) {
	if err := b.report.SetReadDeadline(time.Now().Add(reportWait)); err != nil {
		return InForce{}, err
	}
	ready, abi := false, 0
	for in := json.NewDecoder(b.report); ; {
		var m launch.Message
		switch err := in.Decode(&m); {
		case errors.Is(err, io.EOF) && ready:
			return inForce(spec.Sandbox, abi), nil
		case err != nil:
			return InForce{}, fmt.Errorf("the launcher ended without a word: %w", err)
		case m.Kind == launch.KindRefused && m.Stage == launch.StageExec:
			return InForce{}, notExecuted(spec, m.Errno)
		case m.Kind == launch.KindRefused:
			return InForce{}, m.Err()
		}
		ready, abi = m.Kind == launch.KindReady, m.LandlockABI
	}
}

// inForce names the layers of a level.
func inForce(s *Sandbox, abi int) InForce {
	out := InForce{Profile: s.Profile, Level: s.Plan.Level}
	if s.Plan.Namespaced() {
		out.Layers = append(out.Layers, "root of its own", "pid namespace", "ipc namespace")
		if s.Plan.Network != launch.NetworkFull {
			out.Layers = append(out.Layers, "network namespace")
		}
	}
	out.Layers = append(out.Layers, "no capabilities", fmt.Sprintf("landlock %d", abi), "seccomp")
	return out
}

// notExecuted says why the program itself was not executed.
func notExecuted(spec *Spec, errno syscall.Errno) *sdk.Error {
	e := *launchRefusedAs(spec, errno)
	if errno == syscall.EACCES || errno == syscall.ENOENT {
		e.Remedy = "show the component its interpreter or dynamic loader with read_only in its sandbox_profile"
	}
	return &e
}

// sandboxRefused says that the isolation that was asked for cannot be had.
func sandboxRefused(spec *Spec, err error) error {
	var own *sdk.Error
	if errors.As(err, &own) && own.Reason == ReasonCommand {
		return own // the program's fault
	}
	e := sdk.Errorf(launchRefusedAs(spec, err).Code, ReasonSandbox, "component %s asks for sandbox_profile %q, which cannot be put in force here: level %s: %w",
		spec.Name, spec.Sandbox.Profile, spec.Sandbox.Plan.Level, err)
	return e.WithRemedy("`sop sandbox probe` says which levels this machine has; name another level in the profile, let it start without (enforce = false), or remove sandbox_profile from the component's block")
}

// forkIsolated starts the process under the profile. Where that cannot be had, and
// need not be, it is started without, which its status says.
func (u *unit) forkIsolated(i *instance, path string, req process.Request) (*os.Process, error) {
	child, err := u.tryIsolated(i, path, req)
	defer func() { i.record.Sandbox = i.inForce }()
	if err == nil {
		return child, nil
	}
	refused := sandboxRefused(i.spec, err)
	if i.spec.Sandbox.Enforce || sdk.FromError(refused).Reason != ReasonSandbox {
		return nil, refused
	}
	u.s.logger.Warn("component runs without its sandbox", "component", u.name, "error", refused)
	i.inForce = InForce{Profile: i.spec.Sandbox.Profile, Refused: clip(err.Error())}
	return u.s.launchIn(i, req)
}

// tryIsolated returns the process once it is isolated and has become the component.
func (u *unit) tryIsolated(i *instance, path string, req process.Request) (child *os.Process, err error) {
	b, err := u.s.box(i, path, &req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if child, err = u.s.launchIn(i, req); err != nil {
		return nil, err
	}
	force, err := InForce{}, b.started()
	if err == nil {
		force, err = b.inForce(i.spec)
	}
	if err != nil {
		_ = process.SignalGroup(child.Pid, syscall.SIGKILL) // it is unreaped
		_, waitErr := child.Wait()
		return nil, errors.Join(err, waitErr)
	}
	i.inForce = force
	return child, nil
}

// CheckDir says whether a component in a sandbox can have a directory as its own:
// it may change all that is in it.
func CheckDir(dir string) error {
	if slices.Contains([]string{"/", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/proc", "/sys", "/dev", "/run", "/boot", "/root", "/home", "/var", "/opt"}, filepath.Clean(dir)) {
		return fmt.Errorf("the component could change all of %s", dir)
	}
	return nil
}
