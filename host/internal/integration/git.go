package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// gitTimeout bounds each call of git.
const gitTimeout = 30 * time.Second

// repository is the git repository that a workspace is in.
type repository struct {
	program string
	top     string // of its work tree
	prefix  string // of the workspace in it, with a slash at the end unless it is empty
	owner   syscall.Stat_t
}

// repositoryOf finds the repository around a workspace, or returns nil.
func (i *Integrator) repositoryOf(root string) (*repository, error) {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	for top := real; ; top = filepath.Dir(top) {
		info, err := os.Lstat(filepath.Join(top, ".git"))
		if err == nil {
			return i.repositoryAt(top, real, info)
		}
		if top == filepath.Dir(top) {
			return nil, nil
		}
	}
}

func (i *Integrator) repositoryAt(top, root string, git os.FileInfo) (*repository, error) {
	r := &repository{program: i.opt.Git, top: top}
	if owner, ok := git.Sys().(*syscall.Stat_t); ok {
		r.owner = *owner
	}
	if me := os.Geteuid(); me != 0 && me != int(r.owner.Uid) {
		return nil, refused("the repository %s belongs to the user %d, and git would run what it configures as another", top, r.owner.Uid)
	}
	if rel, err := filepath.Rel(top, root); err == nil && rel != "." {
		r.prefix = filepath.ToSlash(rel) + "/"
	}
	if r.program == "" {
		var err error
		if r.program, err = exec.LookPath("git"); err != nil {
			return nil, sdk.Errorf(codes.FailedPrecondition, ReasonGit, "the workspace is a git work tree, and there is no git to ask: %w", err).
				WithRemedy("install git on the host")
		}
	}
	return r, nil
}

// hardened are settings that hold whatever the repository configures: nothing of
// it is run that these calls do not need.
var hardened = []string{
	"-c", "core.hooksPath=" + os.DevNull, "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "-c", "core.fsync=all", "-c", "gc.auto=0",
	"-c", "core.quotePath=false", "--no-optional-locks", "--literal-pathspecs",
}

// run calls git as the owner of the repository, whose configuration it reads.
func (r *repository) run(ctx context.Context, stdin io.Reader, env []string, args ...string) ([]byte, error) {
	return r.runFor(ctx, gitTimeout, stdin, env, args...)
}

// runFor is run within another time.
func (r *repository) runFor(ctx context.Context, limit time.Duration, stdin io.Reader, env []string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.program, append(append([]string{}, hardened...), args...)...)
	cmd.Dir, cmd.Stdin = r.top, stdin
	cmd.WaitDelay = time.Second
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "HOME=/nonexistent",
	}, env...)
	if os.Geteuid() == 0 && r.owner.Uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: r.owner.Uid, Gid: r.owner.Gid}}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &gitError{args[0], string(bytes.TrimSpace(stderr.Bytes())), err}
	}
	return out, nil
}

// line is run for an answer of one line.
func (r *repository) line(ctx context.Context, args ...string) (string, error) {
	out, err := r.run(ctx, nil, nil, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// gitError says what git has said.
type gitError struct {
	verb, said string
	cause      error
}

// Error implements error.
func (e *gitError) Error() string { return fmt.Sprintf("git %s: %v: %.300s", e.verb, e.cause, e.said) }

// Unwrap returns the cause.
func (e *gitError) Unwrap() error { return e.cause }

// exited says whether git ended by itself, with a code that is not 0: its answer
// was no.
func exited(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Exited() && exit.ExitCode() == 1
}

func gitFailed(err error) error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonGit, "%w", err).WithRemedy("nothing was changed; run git in the workspace to see what is wrong")
}

// mostPathspecs bounds how many paths are named to git; for more it is asked about
// all there are.
const mostPathspecs = 500

// dirty returns those of the paths, relative to the workspace, that have edits
// which nobody has committed.
func (r *repository) dirty(ctx context.Context, paths []string) ([]string, error) {
	args := []string{"status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all", "--"}
	wanted := make(map[string]bool, len(paths))
	for _, p := range paths {
		wanted[p] = true
		if len(paths) <= mostPathspecs {
			args = append(args, r.prefix+p)
		}
	}
	out, err := r.run(ctx, nil, nil, args...)
	if err != nil {
		return nil, gitFailed(err)
	}
	var all []string
	for entry := range strings.SplitSeq(string(out), "\x00") {
		if len(entry) < 4 {
			continue
		}
		if name, ours := strings.CutPrefix(entry[3:], r.prefix); ours && wanted[name] {
			all = append(all, name)
			delete(wanted, name) // what is staged and not there is told twice
		}
	}
	return all, nil
}

// checkDirty refuses to replace files with edits that nobody has committed, unless
// that is asked for. What SOP itself has left there is none.
func (i *Integrator) checkDirty(ctx context.Context, h *home, req *Request, p *plan) ([]string, error) {
	repo, err := i.repositoryOf(req.Root)
	if repo == nil || err != nil {
		return nil, err
	}
	paths, err := repo.dirty(ctx, p.paths())
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	ours, err := h.leftBehind()
	if err != nil {
		return nil, err
	}
	var notes []string
	for _, name := range paths {
		now, err := h.root.look(name)
		if err != nil {
			return nil, err
		}
		if c, known := ours[name]; known && now.isAfter(&c.Change) {
			continue
		}
		if !req.AllowDirty {
			return nil, sdk.Errorf(codes.FailedPrecondition, ReasonDirty, "%s has edits that nobody has committed", name).
				WithRemedy(`nothing was changed; commit or stash them, or set dirty = "allow" in the workspace's integration block`)
		}
		notes = append(notes, name+" had edits that nobody has committed")
	}
	return notes, nil
}

// leftBehind is the last step that was made at every path and is still recorded.
func (h *home) leftBehind() (map[string]*step, error) {
	ids, err := h.ids()
	if err != nil {
		return nil, err
	}
	all, at := make(map[string]*step), make(map[string]time.Time)
	for _, id := range ids {
		r, ok, err := h.record(id)
		if err != nil || !ok {
			return nil, err
		}
		p, ph, err := r.read()
		if err = errors.Join(err, r.close()); err != nil {
			return nil, err
		}
		if ph != done {
			continue
		}
		for i := range p.Steps {
			if s := &p.Steps[i]; !p.At.Before(at[s.Path]) {
				all[s.Path], at[s.Path] = s, p.At
			}
		}
	}
	return all, nil
}

// chownTo gives what is made for git to the owner of the repository.
func (r *repository) chown(name string) error {
	if os.Geteuid() != 0 || r.owner.Uid == 0 {
		return nil
	}
	return unix.Lchown(name, int(r.owner.Uid), int(r.owner.Gid))
}
