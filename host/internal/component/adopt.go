package component

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// found is a process of an earlier host that is to be taken back.
type found struct {
	record *record
	handle *process.Handle
	group  *cgroup.Group // nil where it is in none
}

// recover looks for what an earlier host left. It keeps the processes that their
// spec lets survive, and that are beyond doubt the recorded ones, by component;
// everything else it ends, whatever it is held by.
func (s *Supervisor) recover(specs []*Spec) (map[string]*found, error) {
	records, err := readRecords(s.opt.Dir)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]*Spec)
	for _, spec := range specs {
		wanted[spec.Name] = spec
	}
	kept := make(map[string]*found)
	var ending sync.WaitGroup
	for _, r := range records {
		handle, err := process.Find(r.Process)
		if err != nil {
			continue // gone
		}
		if spec := wanted[r.Component]; s.keeps(r, spec) {
			kept[r.Component] = &found{record: r, handle: handle}
		} else {
			ending.Go(func() { s.endFound(r, handle, spec) })
		}
	}
	ending.Wait()
	if err := s.openCgroups(kept); err != nil {
		s.logger.Warn("prepare cgroups", "error", err)
	}
	for name, f := range kept {
		if f.record.Cgroup == "" {
			continue
		}
		if f.group = s.cgroups.Kept(f.record.Cgroup); f.group == nil || !f.group.Has(f.handle.PID) {
			s.logger.Warn("component has left its cgroup; ended", "component", name, "pid", f.handle.PID)
			s.endFound(f.record, f.handle, nil)
			delete(kept, name)
		}
	}
	return kept, errors.Join(s.endStrays(kept), s.clear(kept))
}

// keeps says whether a living process is taken back.
func (s *Supervisor) keeps(r *record, spec *Spec) bool {
	return spec != nil && spec.Survives && r.Survives && r.Ready && r.Spec == spec.identity() && s.opt.Halted() == nil
}

// leftGrace is for a process whose component is configured no more.
const leftGrace = 2 * time.Second

// endFound ends a process of an earlier host, as its spec says where there is one.
func (s *Supervisor) endFound(r *record, handle *process.Handle, spec *Spec) {
	sig, grace := syscall.SIGTERM, leftGrace
	if spec != nil {
		sig, grace = spec.StopSignal, spec.StopGrace
	}
	if s.opt.Halted() != nil {
		sig = syscall.SIGKILL
	}
	for _, step := range []struct {
		sig   syscall.Signal
		grace time.Duration
	}{{sig, grace}, {syscall.SIGKILL, killWait}} {
		err := handle.SignalGroup(step.sig)
		ctx, cancel := context.WithTimeout(context.Background(), step.grace)
		ended := handle.WaitFor(ctx)
		cancel()
		if ended {
			break
		}
		s.logger.Warn("a process that an earlier host left did not end", "component", r.Component, "pid", handle.PID, "signal", step.sig.String(), "error", err)
	}
	s.logger.Info("ended what an earlier host left of a component", "component", r.Component, "pid", handle.PID)
	_ = handle.Close() // it is only a name
}

// openCgroups opens the tree, which ends what is left in it but for the kept.
func (s *Supervisor) openCgroups(kept map[string]*found) (err error) {
	groups := make(map[string]bool)
	for _, f := range kept {
		if f.record.Cgroup != "" {
			groups[f.record.Cgroup] = true
		}
	}
	s.cgroups, err = cgroup.Open(cgroup.Options{
		Owner: s.opt.Dir, Record: s.opt.Dir + ".cgroups", Keep: func(name string) bool { return groups[name] },
	})
	return err
}

// endStrays ends what components of an earlier host started, wherever it has
// gone, but for what belongs to the kept.
func (s *Supervisor) endStrays(kept map[string]*found) error {
	n, err := process.EndAll(func(p process.Seen) bool {
		if !p.HasEnv(ownerVariable + "=" + s.owner) {
			return false
		}
		for _, f := range kept {
			if p.HasEnv(instanceVariable + "=" + f.record.Instance) {
				return false
			}
		}
		return true
	})
	if n > 0 {
		s.logger.Warn("ended processes that an earlier host's components had left", "count", n)
	}
	return err
}

// clear removes the files but for the kept's.
func (s *Supervisor) clear(kept map[string]*found) error {
	entries, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return fmt.Errorf("read component directory: %w", err)
	}
	for _, e := range entries {
		if kept[strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))] == nil {
			if err := os.RemoveAll(filepath.Join(s.opt.Dir, e.Name())); err != nil {
				return fmt.Errorf("remove what an earlier host left: %w", err)
			}
		}
	}
	return nil
}

// takeBack makes the process of an earlier host the unit's instance.
func (u *unit) takeBack(f *found, number int, release func()) {
	i, err := u.reopen(f, number)
	if err != nil {
		u.s.logger.Warn("a component cannot be taken back; it is started anew", "component", u.name, "pid", f.handle.PID, "error", err)
		_ = f.handle.SignalGroup(syscall.SIGKILL) // what it leaves is ended with its cgroup, below
		c := confinement{group: f.group}
		if err := errors.Join(c.kill(), c.remove(), f.handle.Close(), f.record.remove()); err != nil {
			u.s.logger.Warn("end a component that was left", "component", u.name, "error", err)
		}
		release()
		return
	}
	i.release = release
	u.step(Event{Instance: number, Phase: PhaseAdopted, PID: i.handle.PID, Detail: "running since " + i.startedAt.UTC().Format(time.RFC3339)}, func() {
		u.instance = i
		u.setLocked(StateWaiting, "")
	})
	u.s.logger.Info("component taken back", "component", u.name, "pid", i.handle.PID)
	if i.spec.Readiness.polled() {
		u.mu.Lock()
		ctx, cancel := context.WithTimeout(u.s.ctx, i.spec.StartTimeout)
		u.endStart = cancel
		u.mu.Unlock()
		err := u.awaitReady(ctx, i)
		u.mu.Lock()
		u.endStart = nil
		u.mu.Unlock()
		cancel()
		if err != nil {
			u.startFailed(u.s.ctx, number, u.end(i, i.spec.StopGrace, err))
			release()
			return
		}
	}
	u.serve(i)
}

// reopen takes up output and notify socket where the earlier host left them.
func (u *unit) reopen(f *found, number int) (*instance, error) {
	u.mu.Lock()
	spec := u.spec
	u.mu.Unlock()
	i := &instance{
		spec: spec, identity: f.record.Spec, number: number, id: f.record.Instance, handle: f.handle, startedAt: f.record.StartedAt,
		confined: confinement{group: f.group, limits: spec.Limits}, exited: make(chan struct{}), record: f.record, adopted: time.Now(),
	}
	if f.group != nil {
		i.confined.version = string(u.s.cgroups.Version())
	}
	if spec.Sandbox != nil {
		i.inForce = f.record.Sandbox
	}
	in, err := openToRead(f.record.outputPath())
	if err != nil {
		return nil, err
	}
	if i.reader, err = u.log.read(in, spec.Readiness); err != nil {
		return nil, err
	}
	if spec.Readiness.Kind == ProbeNotify {
		if i.notify, err = listenNotify(f.record.notifyPath()); err != nil {
			i.reader.finish()
			return nil, err
		}
	}
	go i.watch()
	return i, nil
}

// End kills everything that the host of a directory has recorded, without that
// host, and returns how many processes there were.
func End(ctx context.Context, dir string) (killed int, err error) {
	dir, err = filepath.EvalSymlinks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	records, err := readRecords(dir)
	if err != nil {
		return 0, err
	}
	var failed []error
	var handles []*process.Handle
	for _, r := range records {
		handle, err := process.Find(r.Process)
		if err != nil {
			continue // gone
		}
		handles = append(handles, handle)
		failed = append(failed, handle.SignalGroup(syscall.SIGKILL))
	}
	for _, handle := range handles {
		if !handle.WaitFor(ctx) {
			failed = append(failed, fmt.Errorf("process %d: %w", handle.PID, ctx.Err()))
		}
		failed = append(failed, handle.Close())
	}
	strays, err := process.EndAll(func(p process.Seen) bool { return p.HasEnv(ownerVariable + "=" + ownerOf(dir)) })
	return len(handles) + strays, errors.Join(append(failed, err)...)
}
