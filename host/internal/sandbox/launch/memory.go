package launch

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memoryInterval is how often memory is added up where no cgroup does.
const memoryInterval = 25 * time.Millisecond

// watchMemory ends the run when its processes and its files in memory take more
// than the limit. It is coarser than a cgroup: what is shared between
// processes is counted for each, and what is taken within one interval is seen
// after it.
func (p *pid1) watchMemory(stop <-chan struct{}) {
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if resident() <= p.plan.Limits.MemoryBytes {
			continue
		}
		_ = p.control.Send(Message{Kind: KindLimit, Limit: "memory"}) // the host may be gone
		if os.Getpid() == 1 {
			_ = unix.Kill(everything, unix.SIGKILL) // they may be gone
		}
		return
	}
}

// resident is the memory of all processes but pid 1.
func resident() (bytes uint64) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it is gone
		}
		bytes += field(status, "RssAnon:") + field(status, "RssShmem:")
	}
	return bytes
}

// field returns a number of kilobytes, in bytes.
func field(status []byte, name string) uint64 {
	_, rest, _ := strings.Cut(string(status), "\n"+name)
	value, _, _ := strings.Cut(rest, " kB")
	kilobytes, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
	return kilobytes << 10
}
