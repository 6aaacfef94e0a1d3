package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

// atOnce is how many paths are staged before they are synced and put in place.
const atOnce = 1024

// restore is one call of Restore.
type restore struct {
	repo      *repository
	target    *tree
	staging   *staging
	overwrite bool
	progress  progress
	result    *pluginv1.RestoreResult
	// staged waits to be put in place.
	staged []placement
	// placed holds the inodes of the files that were restored, for their hard links.
	placed map[rawPath]inode
	// made are directories whose metadata is set when everything is in them.
	made []*entry
	// touched are the directories in which names have changed.
	touched map[rawPath]bool
	// syncEach says that there are so few that each is synced by itself.
	syncEach bool
}

// placement is a path that is ready to be put in place.
type placement struct {
	entry *entry
	// name is where it is, in the staging directory.
	name string
}

// Restore implements [backup.Backup].
func (b *files) Restore(ctx context.Context, req *pluginv1.RestoreRequest, tell backup.ProgressFunc) (*pluginv1.RestoreResult, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	paths, err := localPaths(req.GetPaths(), req.GetRawPaths())
	if err = errors.Join(absolute("target", req.GetTarget()), err); err != nil {
		return nil, sdk.FromError(err)
	}
	usage, err := s.repo.lock(ctx, usageLock, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer usage.release()
	m, err := s.repo.find(req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	target, err := makeTarget(req.GetTarget())
	if err != nil {
		return nil, err
	}
	defer target.close()
	r := &restore{
		repo: s.repo, target: target, overwrite: req.GetOverwrite(), progress: progress{tell: tell},
		result: &pluginv1.RestoreResult{}, placed: make(map[rawPath]inode), touched: make(map[rawPath]bool),
	}
	if err := r.run(ctx, m, paths); err != nil {
		return nil, restoreError(ctx, err)
	}
	return r.result, nil
}

// find loads a snapshot for a caller.
func (r *repository) find(id string) (*manifest, error) {
	if err := r.live(id); err != nil {
		return nil, err
	}
	m, err := r.load(id)
	var d *damaged
	if errors.As(err, &d) {
		return nil, sdk.Errorf(codes.DataLoss, "SNAPSHOT_DAMAGED", "snapshot %s cannot be read: %w", id, err).
			WithRemedy("verify the repository, and restore another snapshot; docs/backup.md says how to read objects by hand")
	}
	return m, err
}

// makeTarget opens the target, and makes it if only it is missing.
func makeTarget(name string) (*tree, error) {
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, sdk.Errorf(codes.FailedPrecondition, "TARGET_NOT_WRITABLE", "make the target: %w", err)
	}
	t, err := openTree(name)
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
	case noSpace(err):
		return sdk.Errorf(codes.ResourceExhausted, "NO_SPACE", "restore: %w", err).WithRemedy("free space where the target is")
	}
	return sdk.Errorf(codes.Internal, "RESTORE_IO", "restore: %w", err).WithRemedy("check the target")
}

func (r *restore) run(ctx context.Context, m *manifest, paths []rawPath) error {
	chosen := r.choose(m, paths)
	if err := r.room(chosen); err != nil {
		return err
	}
	r.syncEach = len(chosen) <= syncEach
	disk, err := r.target.openDir(".") // before anything is written, so that syncfs sees every error
	if err != nil {
		return err
	}
	defer disk.Close() //nolint:errcheck // a directory that was read only
	if r.staging, err = newStaging(r.target); err != nil {
		return err
	}
	defer r.staging.remove()
	for _, e := range chosen {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.note(e, r.stage(e)); err != nil {
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
func (r *restore) choose(m *manifest, paths []rawPath) (chosen []*entry) {
	missing, wanted := slices.Clone(paths), make([]bool, len(m.entries))
	above := make(map[rawPath]bool)
	for i := range m.entries {
		p := m.entries[i].Path
		wanted[i] = len(paths) == 0 || slices.ContainsFunc(paths, p.beneath)
		missing = slices.DeleteFunc(missing, func(q rawPath) bool { return q == p })
		for dir := path.Dir(string(p)); wanted[i] && dir != "." && !above[rawPath(dir)]; dir = path.Dir(dir) {
			above[rawPath(dir)] = true
		}
	}
	for i := range m.entries {
		e := m.entries[i]
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
func (r *restore) room(chosen []*entry) error {
	var needed int64
	for _, e := range chosen {
		if e.Type == typeFile && e.HardLink == "" {
			needed += e.stored()
		}
	}
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(r.target.dir.Fd()), &disk); err != nil {
		return err
	}
	if free := int64(disk.Bavail) * disk.Bsize; needed > free {
		return fmt.Errorf("%w: up to %d bytes are needed and %d are free", unix.ENOSPC, needed, free)
	}
	return nil
}

func (r *restore) fail(p rawPath, err error) {
	r.result.Failures = append(r.result.Failures, failures([]failure{{p, reasonOf(err)}})...)
}

func (r *restore) warn(p rawPath, err error) {
	if err != nil {
		r.result.Warnings = append(r.result.Warnings, failures([]failure{{p, reasonOf(err)}})...)
	}
}

// note makes a failure of the path of err; a full disk ends the restore.
func (r *restore) note(e *entry, err error) error {
	if noSpace(err) {
		return err
	}
	if err != nil {
		r.fail(e.Path, err)
	}
	return nil
}

// stage prepares one entry beside its place; a directory is made at once.
func (r *restore) stage(e *entry) error {
	switch e.Type {
	case typeDir:
		return r.directory(e)
	case typeSocket:
		r.warn(e.Path, errors.New("a socket is made by the program that listens on it"))
		return nil
	case typeChar, typeBlock:
		return errors.New("devices are not restored")
	}
	name := ""
	if e.HardLink == "" {
		var err error
		if name, err = r.build(e); err != nil {
			return err
		}
	}
	r.staged = append(r.staged, placement{e, name})
	return nil
}

// build makes what is no directory in the staging directory and returns its
// name there.
func (r *restore) build(e *entry) (name string, err error) {
	name = token(8)
	switch e.Type {
	case typeFile:
		err = r.file(e, name)
	case typeSymlink:
		err = unix.Symlinkat(string(e.Target), r.staging.fd(), name)
	case typeFifo:
		err = unix.Mkfifoat(r.staging.fd(), name, 0o600)
	}
	if err == nil && e.Type != typeFile {
		r.warn(e.Path, r.staging.metadata(e, name))
	}
	return name, err
}

// file writes a regular file into the staging directory. Only a whole one is
// left there.
func (r *restore) file(e *entry, name string) error {
	fd, err := unix.Openat(r.staging.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	err = r.repo.readObject(e.SHA256, e.stored(), &sparseWriter{file: f, extents: e.Extents, sparse: e.Sparse}, true)
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
func (r *restore) flush(ctx context.Context, disk *os.File) error {
	if !r.syncEach && len(r.staged) > 0 {
		if err := syncFS(disk); err != nil {
			return err
		}
	}
	for _, p := range r.staged {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.note(p.entry, r.put(p)); err != nil {
			return err
		}
	}
	r.staged = r.staged[:0]
	return nil
}

// put moves one into its place.
func (r *restore) put(p placement) error {
	e := p.entry
	if p.name == "" {
		var err error
		if p.name, err = r.link(e); err != nil {
			return err
		}
	}
	id, err := r.staging.place(p.name, e.Path, r.overwrite)
	if err != nil {
		return err
	}
	r.touched[rawPath(path.Dir(string(e.Path)))] = true
	if e.Type != typeFile {
		return r.progress.add(0, 0)
	}
	r.placed[e.Path] = id
	r.result.Files, r.result.Bytes = r.result.GetFiles()+1, r.result.GetBytes()+e.Size
	return r.progress.add(1, e.stored())
}

// link makes a further name of a file that was restored, or a file of its own
// where that was not.
func (r *restore) link(e *entry) (string, error) {
	id, restored := r.placed[e.HardLink]
	if !restored {
		return r.build(e)
	}
	f, err := r.target.open(e.HardLink, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return r.build(e)
	}
	defer f.Close() //nolint:errcheck // it was not even opened for reading
	if st, err := stat(f); err != nil || (inode{st.Dev, st.Ino}) != id {
		return r.build(e)
	}
	name := token(8)
	return name, unix.Linkat(unix.AT_FDCWD, procPath(f), r.staging.fd(), name, unix.AT_SYMLINK_FOLLOW)
}

// directory makes a directory, or finds it there. Its metadata is set at the
// end, for it may forbid to write there.
func (r *restore) directory(e *entry) error {
	parent, base, err := r.target.parent(e.Path)
	if err != nil {
		return err
	}
	defer parent.Close() //nolint:errcheck // a directory that was read only
	err = unix.Mkdirat(int(parent.Fd()), base, 0o700)
	if err == nil {
		r.touched[rawPath(path.Dir(string(e.Path)))] = true
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
	case isDir && (e.Ancestor || !r.overwrite):
		return nil
	case !isDir && (e.Ancestor || !r.overwrite):
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
func (r *restore) swapForDir(e *entry) error {
	name := token(8)
	if err := unix.Mkdirat(r.staging.fd(), name, 0o700); err != nil {
		return err
	}
	r.touched[rawPath(path.Dir(string(e.Path)))] = true
	return r.staging.exchange(name, e.Path)
}

// finishDirs sets the metadata of directories, children first.
func (r *restore) finishDirs() {
	for _, e := range slices.Backward(r.made) {
		f, err := r.target.openDir(e.Path)
		if err == nil {
			err = setMetadata(f, e)
			err = errors.Join(err, f.Close())
		}
		r.warn(e.Path, err)
	}
}

// syncTouched makes names and metadata durable.
func (r *restore) syncTouched(disk *os.File) error {
	if !r.syncEach {
		return syncFS(disk)
	}
	for _, e := range r.made {
		r.touched[e.Path] = true
	}
	for dir := range r.touched {
		f, err := r.target.openDir(dir)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) { // what may be written but not read cannot be opened
			return err
		}
		if err != nil {
			return syncFS(disk)
		}
	}
	return nil
}
