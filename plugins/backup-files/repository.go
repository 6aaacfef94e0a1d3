package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	"github.com/sop-host/sop/sdk"
)

// The layout of a repository.
const (
	formatFile  = "format.json"
	objectsDir  = "objects"
	snapshotDir = "snapshots"
	pinsDir     = "pins"
	tempDir     = "tmp"
)

const (
	formatName    = "sop-backup-files"
	formatVersion = 1
)

// repository is a directory that holds snapshots. Any number of processes may
// use it at once. All of its methods are safe for concurrent use.
type repository struct {
	dir string
	// inode tells the directory, so that no snapshot holds the repository itself.
	inode    tree.Inode
	compress bool
}

// format is what the format file says.
type format struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// openRepository opens the repository in dir, or makes one where there is none.
func openRepository(ctx context.Context, dir string, compress bool) (*repository, error) {
	r := &repository{dir: dir, compress: compress}
	if err := r.makeDir(dir); err != nil {
		return nil, err
	}
	if err := r.checkFormat(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, ioError("look at the repository", err)
	}
	r.inode = tree.Inode{Dev: st.Dev, Ino: st.Ino}
	return r, r.tidy(ctx)
}

// makeDir makes a directory durably, if it is not there.
func (r *repository) makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	err := os.MkdirAll(path, 0o700)
	return ioError("make the repository", errors.Join(err, syncDir(filepath.Dir(path))))
}

// checkFormat refuses what is no repository, or one of a later version. One
// whose format file was lost is still used; [repository.verify] says so.
func (r *repository) checkFormat() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return ioError("read the repository", err)
	}
	made := exists(filepath.Join(r.dir, snapshotDir))
	known := func(name string) bool {
		return name == formatFile || name == objectsDir || name == pinsDir || name == tempDir || name == usageLock || name == commitLock
	}
	for _, e := range entries {
		if !made && !known(e.Name()) {
			return sdk.Errorf(codes.FailedPrecondition, "NOT_A_REPOSITORY", "%s holds %q and is no repository", r.dir, e.Name()).
				WithRemedy("name an empty directory, or one that does not exist")
		}
	}
	f, err := r.readFormat()
	if err == nil && f.Version > formatVersion {
		return sdk.Errorf(codes.FailedPrecondition, "REPOSITORY_TOO_NEW", "%s has format %d; this program knows %d", r.dir, f.Version, formatVersion).
			WithRemedy("install a later version of sop")
	}
	if made {
		return nil
	}
	return r.create()
}

// create makes the layout; the directory of snapshots comes last and says that
// it is complete.
func (r *repository) create() error {
	for _, d := range []string{objectsDir, pinsDir, tempDir} {
		if err := r.makeDir(filepath.Join(r.dir, d)); err != nil {
			return err
		}
	}
	text, err := json.Marshal(format{formatName, formatVersion})
	if err != nil {
		return err
	}
	if err := r.replace(append(text, '\n'), formatFile); err != nil {
		return ioError("make the repository", err)
	}
	return r.makeDir(filepath.Join(r.dir, snapshotDir))
}

func (r *repository) readFormat() (format, error) {
	var f format
	text, err := os.ReadFile(filepath.Join(r.dir, formatFile))
	if err != nil {
		return f, damagedf(formatFile, "%v", err)
	}
	if err := json.Unmarshal(text, &f); err != nil || f.Format != formatName || f.Version < 1 {
		return f, damagedf(formatFile, "it does not name the format")
	}
	return f, nil
}

// replace writes a file of the repository so that it is, after a crash, the old
// one or the new one, and after the return durably the new one.
func (r *repository) replace(data []byte, name string) error {
	temp, err := writeTemp(r.path(tempDir), data)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, r.path(name)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(r.path(name)))
}

// tidy removes what a process that was killed has left. It leaves that to
// another time when the repository is in use.
func (r *repository) tidy(ctx context.Context) error {
	l, err := r.lock(ctx, usageLock, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		if sdk.FromError(err).Reason == "REPOSITORY_BUSY" {
			return nil
		}
		return err
	}
	defer l.release()
	return r.sweep()
}

// sweep removes temporary files and finishes deletions. The usage lock is held
// alone, so nobody else has any.
func (r *repository) sweep() error {
	entries, err := os.ReadDir(r.path(tempDir))
	if errors.Is(err, fs.ErrNotExist) {
		return r.makeDir(r.path(tempDir))
	}
	for _, e := range entries {
		err = errors.Join(err, os.Remove(r.path(tempDir, e.Name())))
	}
	return ioError("remove what an earlier process left", errors.Join(err, r.finishDeletions()))
}

func (r *repository) path(names ...string) string {
	return filepath.Join(append([]string{r.dir}, names...)...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
