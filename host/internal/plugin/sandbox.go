package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/sdk"
)

// Sandbox says which isolation is in force for a process.
type Sandbox struct {
	// Profile and Level as configured; empty for none.
	Profile, Level string
	// LandlockABI is the version that the kernel speaks.
	LandlockABI int
}

// SandboxSpec says how a plugin is isolated from the host's machine. It is a
// value that nobody changes.
type SandboxSpec struct {
	Profile string
	// Plan is without arguments, environment and what the plugin may write to.
	Plan launch.Plan
}

// boxed is one start under a [SandboxSpec]: what the stage reads, and where it
// says how far it got.
type boxed struct {
	launcher      string // the path of sop-sandbox
	plan          *os.File
	report, words *os.File // to read from, and for the stage to write to
	caps          []uintptr
}

// box prepares a start; nil where the spec asks for no isolation.
func (r *runner) box(argv []string) (*boxed, error) {
	if r.spec.Sandbox == nil {
		return nil, nil //nolint:nilnil // there is none, and nothing is wrong
	}
	path, err := r.sandboxLauncher()
	if err != nil {
		return nil, sandboxRefused(r.spec, err)
	}
	if err := os.MkdirAll(r.spec.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	plan := r.spec.Sandbox.Plan
	plan.Argv, plan.Env, plan.Path, plan.Script = argv, r.env, []string{r.bin.path}, r.bin.script
	plan.Writable = []string{r.spec.StateDir}
	if plan.Script {
		plan.Mounts = append(slices.Clone(plan.Mounts), launch.Mount{Tree: launch.Tree{Path: r.bin.path}, Target: r.bin.path})
	}
	b := &boxed{launcher: path}
	if plan.Namespaced() && os.Geteuid() != 0 {
		b.caps = plan.StageCaps()
	}
	if b.plan, err = launch.SealedPlan(&plan); err != nil {
		return nil, fmt.Errorf("write the plan of the sandbox: %w", err)
	}
	if b.report, b.words, err = os.Pipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), b.plan.Close())
	}
	return b, nil
}

// started lets go of what the stage has by now. A nil boxed has nothing.
func (b *boxed) started() error {
	if b == nil {
		return nil
	}
	return errors.Join(b.plan.Close(), b.words.Close())
}

// close lets go of the report.
func (b *boxed) close() {
	if b != nil {
		_ = b.report.Close() // read to its end, or nobody wants it
	}
}

// reportWait bounds the wait for the end of a report, which the execution of the
// plugin, or the end of the stage, closes.
const reportWait = time.Second

// readReport returns what is in force. Call it when the plugin, or nobody any
// longer, is running: the report has ended then.
func (r *runner) readReport() (Sandbox, *sdk.Error) {
	s := Sandbox{Profile: r.spec.Sandbox.Profile, Level: r.spec.Sandbox.Plan.Level}
	if err := r.boxed.report.SetReadDeadline(time.Now().Add(reportWait)); err != nil {
		return Sandbox{}, sandboxRefused(r.spec, err)
	}
	ready := false
	for in := json.NewDecoder(r.boxed.report); ; {
		var m launch.Message
		switch err := in.Decode(&m); {
		case errors.Is(err, io.EOF) && ready:
			return s, nil
		case err != nil:
			return Sandbox{}, sandboxRefused(r.spec, fmt.Errorf("the launcher ended without a word: %w", err))
		case m.Kind == launch.KindRefused && m.Stage == launch.StageExec:
			return Sandbox{}, r.execRefused(m.Errno)
		case m.Kind == launch.KindRefused:
			return Sandbox{}, sandboxRefused(r.spec, m.Err())
		}
		ready, s.LandlockABI = m.Kind == launch.KindReady, m.LandlockABI
	}
}

// execRefused says why the program itself could not be executed.
func (r *runner) execRefused(errno syscall.Errno) *sdk.Error {
	e := r.launchFailure(errno)
	if errno == syscall.EACCES || errno == syscall.ENOENT {
		e.Remedy = "show the plugin its interpreter or dynamic loader with read_only in its sandbox_profile"
	}
	return e
}

// enterSandbox notes what is in force and returns what keeps the plugin from
// being spoken to: failure, unless the sandbox is the cause.
func (r *runner) enterSandbox(failure *sdk.Error) *sdk.Error {
	if r.boxed == nil {
		return failure
	}
	if failure != nil && failure.Reason != ReasonExitedEarly {
		return failure
	}
	s, refused := r.readReport()
	if refused != nil {
		return refused
	}
	r.mu.Lock()
	r.sandbox = s
	r.mu.Unlock()
	return failure
}

// sandboxRefused says that the isolation that was asked for cannot be had.
func sandboxRefused(spec *Spec, err error) *sdk.Error {
	return failf(ReasonSandbox, "plugin %s asks for sandbox_profile %q, which cannot be put in force here: level %s: %w",
		spec.ID(), spec.Sandbox.Profile, spec.Sandbox.Plan.Level, err).
		WithRemedy("`sop sandbox probe` says which levels this machine has; name another level in the profile, or remove sandbox_profile from the plugin's block")
}

// sandboxed returns what is in force; zero until started, and without a profile.
func (r *runner) sandboxed() Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sandbox
}
