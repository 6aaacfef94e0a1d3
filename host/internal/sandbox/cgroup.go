package sandbox

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// Usage is what a run has used.
type Usage struct {
	User       int64 `json:"user_us"`     // microseconds
	System     int64 `json:"system_us"`   // microseconds
	MemoryPeak int64 `json:"memory_peak"` // bytes; of the largest process where no cgroup counts
}

// launcherPids are threads of the stages, which a cgroup counts with the
// command's.
const launcherPids = 48

// makeGroup makes the run's cgroup. Where there can be none, a note says why,
// and the run has the other limits only.
func (a *attempt) makeGroup() {
	if a.runner.Cgroups == nil {
		return
	}
	limits := a.spec.Profile.Limits
	group, err := a.runner.Cgroups.New("run-"+rand.Text(), cgroup.Limits{Memory: limits.MemoryBytes, PIDs: int(limits.Pids) + launcherPids})
	if err != nil {
		a.out.Notes = append(a.out.Notes, "no cgroup: "+err.Error())
		return
	}
	a.group, a.out.Counted = group, true
}

// closeGroup ends what may be left of the run, takes over what its group knows,
// and removes it.
func (a *attempt) closeGroup(ctx context.Context) error {
	if a.group == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deathTimeout)
	defer cancel()
	if err := a.group.Kill(ctx); err != nil {
		a.lose(err.Error())
	}
	used, err := a.group.Usage()
	if err != nil {
		a.out.Notes = append(a.out.Notes, "cgroup: "+err.Error())
	}
	a.out.Usage.MemoryPeak = max(a.out.Usage.MemoryPeak, used.MemoryPeak)
	if used.OOMKills > 0 {
		a.outOfMemory()
	}
	return a.group.Remove()
}

// outOfMemory records that the kernel has killed for want of memory. Whether
// that ended the run or only some process in it, is for its status to say.
func (a *attempt) outOfMemory() {
	a.out.Limits = append(a.out.Limits, LimitMemory)
	if a.out.Status == Killed || a.out.Status == Lost {
		a.out.Status = Limited
	}
}

// deathTimeout is how long the kernel may take to end what was killed.
const deathTimeout = 10 * time.Second
