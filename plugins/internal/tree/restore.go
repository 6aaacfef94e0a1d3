package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// atOnce is how many paths are staged before they are synced and put in place.
const atOnce = 1024

// syncEach is up to how many paths each is synced by itself; with more the whole
// file system is, once.
const syncEach = 64

// Restore writes entries beneath a directory and nowhere else.
type Restore struct {
	Target    *Tree
	Overwrite bool
	// Copy writes the data of a regular file: the extents one after the other
	// where it has holes. It fails rather than write what was not saved.
	Copy func(context.Context, *Entry, io.Writer) error
	// Count is told of what is done; its error ends everything.
	Count func(files, bytes int64) error

	staging *staging
	result  *pluginv1.RestoreResult
	// staged waits to be put in place.
	staged []placement
	// placed holds the inodes of the files that were restored, for their hard links.
	placed map[Path]Inode
	// made are directories whose metadata is set when everything is in them.
	made []*Entry
	// touched are the directories in which names have changed.
	touched map[Path]bool
	// syncEach says that there are so few that each is synced by itself.
	syncEach bool
}

// placement is a path that is ready to be put in place.
type placement struct {
	entry *Entry
	// name is where it is, in the staging directory.
	name string
}

// OpenTarget opens a directory to restore to, and makes it if only it is missing.
func OpenTarget(name string) (*Tree, error) {
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, sdk.Errorf(codes.FailedPrecondition, "TARGET_NOT_WRITABLE", "make the target: %w", err)
	}
	t, err := Open(name)
	if err != nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "TARGET_NOT_WRITABLE", "open the target: %w", err)
	}
	return t, nil
}

// restoreError is what ended a restore as a whole.
func restoreError(ctx context.Context, err error) error {
	var known *sdk.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &known):
		return known
	case NoSpace(err):
		return sdk.Errorf(codes.ResourceExhausted, "NO_SPACE", "restore: %w", err).WithRemedy("free space where the target is")
	}
	return sdk.Errorf(codes.Internal, "RESTORE_IO", "restore: %w", err).WithRemedy("check the target")
}

// Run restores the paths, or everything when there are none. The entries have
// directories before what is in them, see [CheckEntries].
func (r *Restore) Run(ctx context.Context, entries []*Entry, paths []Path) (*pluginv1.RestoreResult, error) {
	r.result, r.placed, r.touched = &pluginv1.RestoreResult{}, make(map[Path]Inode), make(map[Path]bool)
	if err := r.run(ctx, entries, paths); err != nil {
		return nil, restoreError(ctx, err)
	}
	return r.result, nil
}

func (r *Restore) run(ctx context.Context, entries []*Entry, paths []Path) error {
	chosen := r.choose(entries, paths)
	if err := r.room(chosen); err != nil {
		return err
	}
	r.syncEach = len(chosen) <= syncEach
	disk, err := r.Target.OpenDir(".") // before anything is written, so that syncfs sees every error
	if err != nil {
		return err
	}
	defer disk.Close() //nolint:errcheck // a directory that was read only
	if r.staging, err = newStaging(r.Target); err != nil {
		return err
	}
	defer r.staging.remove()
	for _, e := range chosen {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.note(e, r.stage(ctx, e)); err != nil {
			return err
		}
		if len(r.staged) >= atOnce {
			if err := r.flush(ctx, disk); err != nil {
				return err
			}
		}
	}
	if err := r.flush(ctx, disk); err != nil {
		return err
	}
	r.finishDirs()
	return r.syncTouched(disk)
}

// choose returns the entries that are asked for, and as ancestors the
// directories that they are in.
func (r *Restore) choose(entries []*Entry, paths []Path) (chosen []*Entry) {
	missing, wanted := slices.Clone(paths), make([]bool, len(entries))
	above := make(map[Path]bool)
	for i := range entries {
		p := entries[i].Path
		wanted[i] = len(paths) == 0 || slices.ContainsFunc(paths, p.Beneath)
		missing = slices.DeleteFunc(missing, func(q Path) bool { return q == p })
		for dir := path.Dir(string(p)); wanted[i] && dir != "." && !above[Path(dir)]; dir = path.Dir(dir) {
			above[Path(dir)] = true
		}
	}
	for i := range entries {
		e := *entries[i]
		e.Ancestor = e.Ancestor || !wanted[i]
		if wanted[i] || above[e.Path] {
			chosen = append(chosen, &e)
		}
	}
	for _, p := range missing {
		r.fail(p, errors.New("it is not in the snapshot"))
	}
	return chosen
}

// room refuses at once what would not fit.
func (r *Restore) room(chosen []*Entry) error {
	var needed int64
	for _, e := range chosen {
		if e.Type == TypeFile && e.HardLink == "" {
			needed += e.Stored()
		}
	}
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(r.Target.dir.Fd()), &disk); err != nil {
		return err
	}
	if free := int64(disk.Bavail) * disk.Bsize; needed > free {
		return fmt.Errorf("%w: up to %d bytes are needed and %d are free", unix.ENOSPC, needed, free)
	}
	return nil
}

func pathFailure(p Path, err error) *pluginv1.PathFailure {
	return &pluginv1.PathFailure{Path: []byte(p), Message: Path(Reason(err)).Text()}
}

func (r *Restore) fail(p Path, err error) {
	r.result.Failures = append(r.result.Failures, pathFailure(p, err))
}

func (r *Restore) warn(p Path, err error) {
	if err != nil {
		r.result.Warnings = append(r.result.Warnings, pathFailure(p, err))
	}
}

// note makes a failure of the path of err; a full disk ends the restore.
func (r *Restore) note(e *Entry, err error) error {
	if NoSpace(err) {
		return err
	}
	if err != nil {
		r.fail(e.Path, err)
	}
	return nil
}

// stage prepares one entry beside its place; a directory is made at once.
func (r *Restore) stage(ctx context.Context, e *Entry) error {
	switch e.Type {
	case TypeDir:
		return r.directory(e)
	case TypeSocket:
		r.warn(e.Path, errors.New("a socket is made by the program that listens on it"))
		return nil
	case TypeChar, TypeBlock:
		return errors.New("devices are not restored")
	}
	name := ""
	if e.HardLink == "" {
		var err error
		if name, err = r.build(ctx, e); err != nil {
			return err
		}
	}
	r.staged = append(r.staged, placement{e, name})
	return nil
}

// build makes what is no directory in the staging directory and returns its
// name there.
func (r *Restore) build(ctx context.Context, e *Entry) (name string, err error) {
	name = token()
	switch e.Type {
	case TypeFile:
		err = r.file(ctx, e, name)
	case TypeSymlink:
		err = unix.Symlinkat(string(e.Target), r.staging.fd(), name)
	case TypeFifo:
		err = unix.Mkfifoat(r.staging.fd(), name, 0o600)
	}
	if err == nil && e.Type != TypeFile {
		r.warn(e.Path, r.staging.metadata(e, name))
	}
	return name, err
}

// file writes a regular file into the staging directory. Only a whole one is
// left there.
func (r *Restore) file(ctx context.Context, e *Entry, name string) error {
	fd, err := unix.Openat(r.staging.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	err = r.Copy(ctx, e, SparseWriter(f, e))
	if err == nil {
		err = f.Truncate(e.Size)
	}
	if err == nil {
		r.warn(e.Path, setMetadata(f, e))
		if r.syncEach {
			err = f.Sync()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, unix.Unlinkat(r.staging.fd(), name, 0))
	}
	return nil
}

// flush puts what is staged in place, after its content is durable: a crash
// leaves each path as it was or as it shall be.
func (r *Restore) flush(ctx context.Context, disk *os.File) error {
	if !r.syncEach && len(r.staged) > 0 {
		if err := SyncFS(disk); err != nil {
			return err
		}
	}
	for _, p := range r.staged {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.note(p.entry, r.put(ctx, p)); err != nil {
			return err
		}
	}
	r.staged = r.staged[:0]
	return nil
}

// put moves one into its place.
func (r *Restore) put(ctx context.Context, p placement) error {
	e := p.entry
	if p.name == "" {
		var err error
		if p.name, err = r.link(ctx, e); err != nil {
			return err
		}
	}
	id, err := r.staging.place(p.name, e.Path, r.Overwrite)
	if err != nil {
		return err
	}
	r.touched[Path(path.Dir(string(e.Path)))] = true
	if e.Type != TypeFile {
		return r.Count(0, 0)
	}
	r.placed[e.Path] = id
	r.result.Files, r.result.Bytes = r.result.GetFiles()+1, r.result.GetBytes()+e.Size
	return r.Count(1, e.Stored())
}

// link makes a further name of a file that was restored, or a file of its own
// where that was not.
func (r *Restore) link(ctx context.Context, e *Entry) (string, error) {
	id, restored := r.placed[e.HardLink]
	if !restored {
		return r.build(ctx, e)
	}
	f, err := r.Target.open(e.HardLink, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return r.build(ctx, e)
	}
	defer f.Close() //nolint:errcheck // it was not even opened for reading
	if st, err := stat(f); err != nil || (Inode{st.Dev, st.Ino}) != id {
		return r.build(ctx, e)
	}
	name := token()
	return name, unix.Linkat(unix.AT_FDCWD, procPath(f), r.staging.fd(), name, unix.AT_SYMLINK_FOLLOW)
}

// directory makes a directory, or finds it there. Its metadata is set at the
// end, for it may forbid to write there.
func (r *Restore) directory(e *Entry) error {
	parent, base, err := r.Target.parent(e.Path)
	if err != nil {
		return err
	}
	defer parent.Close() //nolint:errcheck // a directory that was read only
	err = unix.Mkdirat(int(parent.Fd()), base, 0o700)
	if err == nil {
		r.touched[Path(path.Dir(string(e.Path)))] = true
		r.made = append(r.made, e)
		return nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	st, err := statAt(parent, base)
	if err != nil {
		return err
	}
	switch isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case isDir && (e.Ancestor || !r.Overwrite):
		return nil
	case !isDir && (e.Ancestor || !r.Overwrite):
		return errors.New("something that is no directory is in its place")
	case !isDir:
		if err := r.swapForDir(e); err != nil {
			return err
		}
	}
	r.made = append(r.made, e)
	return nil
}

// swapForDir puts a directory in the place of what is none.
func (r *Restore) swapForDir(e *Entry) error {
	name := token()
	if err := unix.Mkdirat(r.staging.fd(), name, 0o700); err != nil {
		return err
	}
	r.touched[Path(path.Dir(string(e.Path)))] = true
	return r.staging.exchange(name, e.Path)
}

// finishDirs sets the metadata of directories, children first.
func (r *Restore) finishDirs() {
	for _, e := range slices.Backward(r.made) {
		f, err := r.Target.OpenDir(e.Path)
		if err == nil {
			err = setMetadata(f, e)
			err = errors.Join(err, f.Close())
		}
		r.warn(e.Path, err)
	}
}

// syncTouched makes names and metadata durable.
func (r *Restore) syncTouched(disk *os.File) error {
	if !r.syncEach {
		return SyncFS(disk)
	}
	for _, e := range r.made {
		r.touched[e.Path] = true
	}
	for dir := range r.touched {
		f, err := r.Target.OpenDir(dir)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) { // what may be written but not read cannot be opened
			return err
		}
		if err != nil {
			return SyncFS(disk)
		}
	}
	return nil
}
