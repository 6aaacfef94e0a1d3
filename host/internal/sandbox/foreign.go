package sandbox

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// findForeign looks for files of ids that the sandbox does not know: overlayfs
// refuses to change them (EOVERFLOW), and when a run has failed, a person should
// be told that this may be why.
func findForeign(ctx context.Context, plan *launch.Plan, workspace string) []string {
	count, first := 0, ""
	err := filepath.WalkDir(workspace, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return ctx.Err() // what cannot be read cannot be changed either
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // it has gone meanwhile
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && (!maps(plan.UIDMap, int(stat.Uid)) || !maps(plan.GIDMap, int(stat.Gid))) {
			if count++; count == 1 {
				first = path
			}
		}
		return nil
	})
	if err != nil || count == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d entries belong to ids that the sandbox does not know and cannot be changed in it; the first is %s", count, first)}
}

func maps(ranges []launch.IDRange, id int) bool {
	if id == 0 && len(ranges) > 1 {
		return true // root's files are its sandbox's own
	}
	for _, r := range ranges {
		if id >= r.Outside && id < r.Outside+r.Count {
			return true
		}
	}
	return false
}
