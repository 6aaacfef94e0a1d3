package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Between looks whether killed processes have gone.
const (
	firstLook = time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// Kill ends every process in the group and returns when there is none, or when
// ctx is done. The group must not be used again: see [Tree.New].
func (g *Group) Kill(ctx context.Context) error {
	left := 0
	err := until(ctx, func() (done bool, err error) {
		left, err = g.killOnce()
		return left == 0, err
	})
	if err != nil && left > 0 {
		return fmt.Errorf("cgroup %s has %d processes after SIGKILL: %w", g.name, left, err)
	}
	return err
}

// until looks again and again, less and less often, until there is nothing left
// to wait for, an error, or ctx is done. The kernel tells of none of what is
// waited for here.
func until(ctx context.Context, look func() (done bool, err error)) error {
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		if done, err := look(); err != nil || done {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// killOnce sends SIGKILL to all and says to how many. The kernel does it for v2
// since 5.14; before, and for v1, the group is frozen meanwhile, so that it does
// not grow faster than it is killed.
func (g *Group) killOnce() (int, error) {
	pids, err := g.processes()
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	for _, d := range g.dirs {
		if write(filepath.Join(d.path, "cgroup.kill"), "1") == nil {
			return len(pids), nil
		}
	}
	thaw := g.freeze()
	defer thaw() // v1 delivers the signal no sooner
	if pids, err = g.processes(); err != nil {
		return 0, err
	}
	var failed []error
	for pid := range pids {
		failed = append(failed, g.killProcess(pid))
	}
	return len(pids), errors.Join(failed...)
}

// freeze stops what is in the group where the kernel can, and returns what
// undoes it. A thread of this process that is in there must not be stopped: it
// could not even exit.
func (g *Group) freeze() (thaw func()) {
	if g.holdsUs() {
		return func() {}
	}
	for _, d := range g.dirs {
		for file, values := range map[string][2]string{"freezer.state": {"FROZEN", "THAWED"}, "cgroup.freeze": {"1", "0"}} {
			path := filepath.Join(d.path, file)
			if write(path, values[0]) == nil {
				return func() { _ = write(path, values[1]) } // it has just been written to
			}
		}
	}
	return func() {}
}

// processes returns those in the group and in cgroups that they made beneath
// it, without this process.
func (g *Group) processes() (map[int]bool, error) {
	pids, err := g.members()
	delete(pids, os.Getpid())
	return pids, err
}

// Has says whether a process is in the group, or in one that was made beneath it.
func (g *Group) Has(pid int) bool {
	pids, err := g.members()
	return err == nil && pids[pid]
}

// Empty says whether no process is in it, nor in those beneath it.
func (g *Group) Empty() (bool, error) {
	pids, err := g.processes()
	return err == nil && len(pids) == 0, err
}

func (g *Group) holdsUs() bool {
	pids, err := g.members()
	return err != nil || pids[os.Getpid()]
}

func (g *Group) members() (map[int]bool, error) {
	pids := make(map[int]bool)
	for _, d := range g.dirs {
		err := filepath.WalkDir(d.path, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return ignoreGone(err)
			}
			data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for field := range strings.FieldsSeq(string(data)) {
				// One of a pid namespace that we do not see is 0.
				if pid, convErr := strconv.Atoi(field); convErr == nil && pid > 0 {
					pids[pid] = true
				}
			}
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// ignoreGone forgives that a cgroup or a process is gone. A file in /proc that was
// opened in the instant before is read with ESRCH.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// killProcess kills pid if it is in the group: by the time that it is opened the
// number may be another's.
func (g *Group) killProcess(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }() // opened to signal only
	where, err := os.ReadFile(filepath.Join(g.sys.proc, strconv.Itoa(pid), "cgroup"))
	if err != nil || !strings.Contains(string(where), "/"+g.name) {
		return ignoreGone(err)
	}
	if err := unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}
