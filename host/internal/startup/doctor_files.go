package startup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/shirou/gopsutil/v4/disk"
	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/doctor"
)

// Bits of a mode that are too many.
const (
	forOthers   fs.FileMode = 0o077
	othersWrite fs.FileMode = 0o022
	othersList  fs.FileMode = 0o044
)

// examinePermissions finds what others may read or write of the host's.
func (p *patient) examinePermissions(context.Context) []doctor.Finding {
	info, err := os.Lstat(string(p.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return append([]doctor.Finding{doctor.Fine("%s is not there yet; `sop up` makes it", p.dir)}, p.examineConfigFiles()...)
	}
	if err != nil {
		return []doctor.Finding{doctor.FromError(err, "run this as the user who runs `sop up`")}
	}
	owner := ownerOf(info)
	files := p.examineFiles(owner)
	out := p.examineDirs(owner)
	if uid := os.Geteuid(); uid != 0 && uid != owner {
		out = append(out, doctor.Warn("run this, and `sop up`, as the same user", "%s belongs to uid %d, and this runs as uid %d", p.dir, owner, uid))
	}
	out = append(append(out, files...), p.examineConfigFiles()...)
	if len(out) == 0 {
		out = append(out, doctor.Fine("%s and the secrets in it are its owner's alone", p.dir))
	}
	return out
}

func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// examineDirs looks at the directories: the way to the socket may be open to
// pass through, and no more.
func (p *patient) examineDirs(owner int) (out []doctor.Finding) {
	for _, d := range []struct {
		path string
		bits fs.FileMode
	}{
		{string(p.dir), othersWrite | othersList},
		{p.dir.join("state"), othersWrite | othersList},
		{p.dir.join("logs"), forOthers},
		{p.dir.join("file_management"), forOthers},
	} {
		if info, err := os.Lstat(d.path); err == nil { // what is missing the host makes
			out = append(out, tooOpen(d.path, info, d.bits, owner)...)
		}
	}
	return out
}

// examineFiles looks at the files in state/: keys, credentials, the database.
func (p *patient) examineFiles(owner int) (out []doctor.Finding) {
	entries, err := os.ReadDir(p.dir.join("state"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []doctor.Finding{doctor.FromError(err, "run this as the user who runs `sop up`")}
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || e.Name() == audit.PublicKeyFile {
			continue // it has gone, or is nobody's secret
		}
		out = append(out, tooOpen(p.dir.join("state", e.Name()), info, forOthers, owner)...)
	}
	return out
}

// examineConfigFiles looks for others who decide what the host starts.
func (p *patient) examineConfigFiles() (out []doctor.Finding) {
	if p.config == nil {
		return nil
	}
	for _, path := range append([]string{lockPath(p.config)}, p.config.Files...) {
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&othersWrite != 0 {
			out = append(out, doctor.Warn("chmod go-w "+path, "others may write to %s (mode %04o), and so decide what the host starts", path, info.Mode().Perm()))
		}
	}
	return out
}

func tooOpen(path string, info fs.FileInfo, bits fs.FileMode, owner int) (out []doctor.Finding) {
	if mode := info.Mode().Perm(); mode&bits != 0 {
		out = append(out, doctor.Fail(fmt.Sprintf("chmod %04o %s", mode&^bits, path), "others have access to %s (mode %04o)", path, mode))
	}
	if has := ownerOf(info); has != owner {
		out = append(out, doctor.Fail(fmt.Sprintf("chown %d %s", owner, path), "%s belongs to uid %d, and the data directory to uid %d", path, has, owner))
	}
	return out
}

// How much room the host needs to go on, and to go on for a while.
const (
	leastBytes, fewBytes   = 64 << 20, 1 << 30
	leastInodes, fewInodes = 1000, 20000
)

// examineDisk looks for room where the data directory is, or will be.
func (p *patient) examineDisk(ctx context.Context) []doctor.Finding {
	dir := nearest(string(p.dir), func(path string) bool { _, err := os.Lstat(path); return err == nil })
	use, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return []doctor.Finding{doctor.FromError(err, "look at the file system of "+dir)}
	}
	out := []doctor.Finding{roomOf(dir, use)}
	if use.InodesTotal > 0 { // some file systems make them as they are needed
		out = append(out, inodesOf(dir, use))
	}
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
		out = append(out, doctor.Fail("mount it for writing, or set host.data_dir to another file system", "the file system of %s is mounted read-only", dir))
	}
	return out
}

func roomOf(dir string, use *disk.UsageStat) doctor.Finding {
	const remedy = "make room: `sop backup prune`, `sop audit archive`, or what else lies there"
	switch free := filepath.Clean(dir); {
	case use.Free < leastBytes:
		return doctor.Fail(remedy, "%s are left for %s", bytesText(use.Free), free)
	case use.Free < fewBytes:
		return doctor.Warn(remedy, "%s are left for %s", bytesText(use.Free), free)
	default:
		return doctor.Fine("%s of %s free for %s", bytesText(use.Free), bytesText(use.Total), free)
	}
}

func inodesOf(dir string, use *disk.UsageStat) doctor.Finding {
	const remedy = "remove small files that nobody needs, or make a file system with more inodes"
	switch {
	case use.InodesFree < leastInodes:
		return doctor.Fail(remedy, "%d inodes are left for %s", use.InodesFree, dir)
	case use.InodesFree < fewInodes:
		return doctor.Warn(remedy, "%d inodes are left for %s", use.InodesFree, dir)
	}
	return doctor.Fine("%d of %d inodes free", use.InodesFree, use.InodesTotal)
}

// bytesText is a size with the digits that matter.
func bytesText(n uint64) string {
	const unit = 1024
	value, suffix := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < unit {
			break
		}
		value, suffix = value/unit, next
	}
	return fmt.Sprintf("%.3g %s", value, suffix)
}
