package launch

import (
	"time"

	"golang.org/x/sys/unix"
)

// memoryInterval is how often memory is added up where no cgroup does.
const memoryInterval = 25 * time.Millisecond

// A memoryWatch ends a run when its processes and its files in memory take more
// than the limit. It is coarser than a cgroup: what is shared between
// processes is counted for each, and what is taken within one interval is seen
// after it. The zero value watches nothing.
type memoryWatch struct {
	most uint64
	next time.Time
	proc procReader
}

// wait is how many milliseconds there are until the watch is to look; -1 for
// ever.
func (w *memoryWatch) wait() int {
	if w.most == 0 {
		return -1
	}
	return int(max(0, time.Until(w.next)+time.Millisecond-1) / time.Millisecond)
}

// isExceeded looks, when it is time to.
func (w *memoryWatch) isExceeded() bool {
	now := time.Now()
	if w.most == 0 || now.Before(w.next) {
		return false
	}
	w.next = now.Add(memoryInterval)
	return w.resident() > w.most
}

// resident is the memory of all processes but pid 1.
func (w *memoryWatch) resident() (bytes uint64) {
	w.proc.processes(func(pid int) {
		if pid != 1 {
			status := w.proc.read(pid, "status")
			bytes += kilobytes(status, "\nRssAnon:") + kilobytes(status, "\nRssShmem:")
		}
	})
	return bytes
}

// overMemory ends the run, of which the kill leaves nothing to be watched.
func (p *pid1) overMemory() {
	p.memory.most = 0
	_ = p.control.Send(Message{Kind: KindLimit, Limit: "memory"}) // the host may be gone
	if p.rest == everything {
		_ = unix.Kill(everything, unix.SIGKILL) // they may be gone
	}
}
