package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A Patch is a change set that is made in a view before anything runs.
type Patch struct {
	Set     *ChangeSet
	Content Content
}

// check refuses a patch that cannot be made in the workspace as it is.
func (p *Patch) check(workspace *os.Root) error {
	if p == nil {
		return nil
	}
	if len(p.Set.Rejected) > 0 {
		return fmt.Errorf("the patch is rejected: %v", p.Set.Rejected[0])
	}
	for i := range p.Set.Changes {
		if err := checkOld(workspace, &p.Set.Changes[i]); err != nil {
			return fmt.Errorf("the patch: %w", err)
		}
	}
	return nil
}

// sorted is the set in the order in which it can be made, whatever order it
// was kept in.
func (p *Patch) sorted() *ChangeSet {
	set := &ChangeSet{Changes: slices.Clone(p.Set.Changes)}
	set.sort()
	return set
}

// bundle writes the patch to a file without a name, as init reads it.
func (p *Patch) bundle() (file *os.File, err error) {
	if file, err = unnamedFile(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
			file = nil
		}
	}()
	set := p.sorted()
	for i := range set.Changes {
		if err := p.bundleOne(file, &set.Changes[i]); err != nil {
			return file, fmt.Errorf("the patch: %s: %w", set.Changes[i].Path, err)
		}
	}
	return file, nil
}

var patchOps = map[Op]string{
	OpAdd: launch.PatchFile, OpModify: launch.PatchFile, OpDelete: launch.PatchDelete,
	OpChmod: launch.PatchChmod, OpSymlink: launch.PatchSymlink, OpMkdir: launch.PatchMkdir,
}

func (p *Patch) bundleOne(to io.Writer, c *Change) error {
	op, known := patchOps[c.Op]
	if !known {
		return fmt.Errorf("there is no operation %q", c.Op)
	}
	entry := &launch.PatchEntry{Op: op, Path: c.Path, Mode: c.Mode, Target: c.Target}
	if op != launch.PatchFile {
		return launch.WritePatch(to, entry)
	}
	entry.Size = c.Size
	if err := launch.WritePatch(to, entry); err != nil {
		return err
	}
	from, err := p.Content(*c)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read from
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, hash), io.LimitReader(from, c.Size+1))
	if err != nil {
		return err
	}
	if n != c.Size || hex.EncodeToString(hash.Sum(nil)) != c.SHA256 {
		return fmt.Errorf("the new content: %w", ErrConflict)
	}
	return nil
}

// unnamedFile is gone when it is closed, whatever becomes of this process.
func unnamedFile() (*os.File, error) {
	dir := os.TempDir()
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), "patch"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &os.PathError{Op: "create in", Path: dir, Err: err}
	}
	file, err := os.CreateTemp(dir, "sop-patch-")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

// patchCopy makes the patch in a private copy.
func (a *attempt) patchCopy() (err error) {
	if a.spec.Patch == nil {
		return nil
	}
	root, err := os.OpenRoot(a.own.Workspace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	set := a.spec.Patch.sorted()
	if err := Apply(root, set, a.spec.Patch.Content); err != nil {
		return err
	}
	for i := range set.Changes {
		if c := &set.Changes[i]; c.Op != OpDelete {
			if err := giveAway(filepath.Join(a.own.Workspace, filepath.FromSlash(c.Path))); err != nil {
				return err
			}
		}
	}
	return nil
}

// passed are the descriptors that go with the plan, which names them. Those
// that were made for it are the caller's to close, as made.
func (a *attempt) passed(plan *launch.Plan) (files, made []*os.File, err error) {
	if s := a.spec.Service; s != nil {
		plan.Passed, files = append(plan.Passed, launch.PassedProgram), append(files, s.Program)
	}
	if a.spec.Patch != nil && a.out.private == nil {
		bundle, err := a.spec.Patch.bundle()
		if err != nil {
			return nil, nil, err
		}
		plan.Passed, files, made = append(plan.Passed, launch.PassedPatch), append(files, bundle), append(made, bundle)
	}
	if len(a.spec.Protected) > 0 {
		names, err := protectedNames(a.spec.Protected)
		if err != nil {
			for _, file := range made {
				err = errors.Join(err, file.Close())
			}
			return nil, nil, err
		}
		plan.Passed, files, made = append(plan.Passed, launch.PassedProtected), append(files, names), append(made, names)
	}
	return files, made, nil
}

// sendPlan begins the run.
func (a *attempt) sendPlan(plan *launch.Plan, passed []*os.File) error {
	fds := make([]int, len(passed))
	for i, file := range passed {
		fds[i] = int(file.Fd())
	}
	defer runtime.KeepAlive(passed)
	return a.launcher.control.Send(plan, fds...)
}
