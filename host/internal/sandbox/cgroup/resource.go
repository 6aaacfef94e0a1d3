package cgroup

import "time"

// Version is the kind of cgroups in use.
type Version string

// Versions.
const (
	V2   Version = "v2"
	V1   Version = "v1"
	None Version = ""
)

// Resource is something that a group can be limited in.
type Resource string

// Resources; each is also the name of the kernel's controller.
const (
	Memory Resource = "memory"
	PIDs   Resource = "pids"
	CPU    Resource = "cpu"
)

// Resources lists all of them.
func Resources() []Resource { return []Resource{Memory, PIDs, CPU} }

// Limits bound a group; zero means no limit.
type Limits struct {
	Memory int64   // bytes, swap included
	PIDs   int     // processes and threads
	CPUs   float64 // processors' worth of time
}

// Has says whether l limits r.
func (l Limits) Has(r Resource) bool {
	switch r {
	case Memory:
		return l.Memory > 0
	case PIDs:
		return l.PIDs > 0
	case CPU:
		return l.CPUs > 0
	}
	return false
}

// Usage is what a group uses and has used. What the kernel does not tell is
// zero.
type Usage struct {
	Memory, MemoryPeak int64 // bytes
	OOMKills           int64 // processes that the kernel killed for want of memory
	PIDs, PIDsPeak     int64 // processes and threads
	PIDsRefused        int64 // processes and threads that the limit kept from being started
	CPU                time.Duration
}
