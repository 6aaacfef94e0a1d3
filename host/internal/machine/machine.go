// Package machine measures what processes use and what the machine has, in the
// background, so that nobody who asks waits for it: a file system that hangs
// hangs the measurement and not the asker.
//
// It imports nothing of ours and is imported by startup.
package machine

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

const (
	// Every is how often is measured.
	Every = 5 * time.Second
	// soon is when it is measured for the second time: the first knows of no time
	// over which processors were busy.
	soon = time.Second
)

// Use is what one or more processes use.
type Use struct {
	Processes  int
	CPUPercent float64 // of one processor, since the sample before
	Memory     uint64  // resident, in bytes
	Threads    int
	OpenFiles  int
}

// Sample is one measurement. What could not be measured is zero.
type Sample struct {
	At            time.Time
	Host, Started Use

	CPUs                   int
	CPUPercent, Load1      float64 // of all processors together, since the sample before
	MemoryTotal, Available uint64
	Processes              int
	DiskTotal, DiskFree    uint64
	InodesTotal            uint64
	InodesFree             uint64
}

// Meter measures. Make it with its fields set, call Run, and ask Latest.
type Meter struct {
	// Dir is a directory on the file system that is measured.
	Dir string
	// Started returns the processes that this one has started, as far as they are
	// of interest.
	Started func() []int
	// Failed is told what could not be measured, once for as long as it lasts; nil
	// is fine.
	Failed func(error)

	latest atomic.Pointer[Sample]

	// Of Run alone.
	at      time.Time
	busy    map[int]float64 // seconds of each process
	machine cpu.TimesStat
	failing bool
}

// Latest returns the latest sample, or nil where there is none yet. It must not
// be written to.
func (m *Meter) Latest() *Sample { return m.latest.Load() }

// Run measures at once, and then every so often until ctx is done. The first
// sample is there with the second measurement: that tells how busy all was.
func (m *Meter) Run(ctx context.Context) {
	ticker := time.NewTicker(soon)
	defer ticker.Stop()
	for first := true; ; first = false {
		err := m.measure(ctx)
		if err != nil && !m.failing && m.Failed != nil && ctx.Err() == nil {
			m.Failed(err)
		}
		m.failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if first {
			ticker.Reset(Every)
		}
	}
}

// measure takes one sample.
func (m *Meter) measure(ctx context.Context) error {
	s := &Sample{At: time.Now(), CPUs: runtime.NumCPU()}
	since := s.At.Sub(m.at).Seconds()
	if m.at.IsZero() {
		since = 0
	}
	busy := make(map[int]float64)
	failed := []error{m.add(ctx, &s.Host, os.Getpid(), since, busy)}
	if m.Started != nil {
		for _, pid := range m.Started() {
			_ = m.add(ctx, &s.Started, pid, since, busy) // it may have ended meanwhile
		}
	}
	m.at, m.busy = s.At, busy
	failed = append(failed, m.measureMachine(ctx, s))
	if since > 0 { // before, nobody knows how busy anything is
		m.latest.Store(s)
	}
	return errors.Join(failed...)
}

// add adds what a process uses; since is how many seconds ago busy was taken, 0
// for never.
func (m *Meter) add(ctx context.Context, use *Use, pid int, since float64, busy map[int]float64) error {
	p, err := process.NewProcessWithContext(ctx, int32(pid))
	if err != nil {
		return err
	}
	times, err := p.TimesWithContext(ctx)
	if err != nil {
		return err
	}
	use.Processes++
	busy[pid] = times.User + times.System
	before, known := m.busy[pid]
	if created, err := p.CreateTimeWithContext(ctx); err == nil && !known { // all that it used it has used since
		known = time.UnixMilli(created).After(m.at)
	}
	if known && since > 0 {
		use.CPUPercent += max(0, busy[pid]-before) / since * 100
	}
	memory, err := p.MemoryInfoWithContext(ctx)
	if err == nil {
		use.Memory += memory.RSS
	}
	threads, threadsErr := p.NumThreadsWithContext(ctx)
	use.Threads += int(threads)
	files, filesErr := p.NumFDsWithContext(ctx)
	use.OpenFiles += int(files)
	return errors.Join(err, threadsErr, filesErr)
}

// measureMachine measures what is not of a process.
func (m *Meter) measureMachine(ctx context.Context, s *Sample) error {
	var failed []error
	times, err := cpu.TimesWithContext(ctx, false)
	if failed = append(failed, err); err == nil && len(times) > 0 {
		s.CPUPercent = share(m.machine, times[0])
		m.machine = times[0]
	}
	average, err := load.AvgWithContext(ctx)
	if failed = append(failed, err); err == nil {
		s.Load1 = average.Load1
	}
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if failed = append(failed, err); err == nil {
		s.MemoryTotal, s.Available = memory.Total, memory.Available
	}
	pids, err := process.PidsWithContext(ctx)
	failed = append(failed, err)
	s.Processes = len(pids)
	room, err := disk.UsageWithContext(ctx, m.Dir)
	if failed = append(failed, err); err == nil {
		s.DiskTotal, s.DiskFree, s.InodesTotal, s.InodesFree = room.Total, room.Free, room.InodesTotal, room.InodesFree
	}
	return errors.Join(failed...)
}

// share is how much of the time between two readings the processors were busy,
// in percent.
func share(before, now cpu.TimesStat) float64 {
	total := func(t cpu.TimesStat) float64 { // that of guests is within that of users
		return t.User + t.System + t.Idle + t.Nice + t.Iowait + t.Irq + t.Softirq + t.Steal
	}
	all, idle := total(now)-total(before), now.Idle+now.Iowait-before.Idle-before.Iowait
	if before.CPU == "" || all <= 0 {
		return 0
	}
	return min(100, max(0, (all-idle)/all*100))
}
