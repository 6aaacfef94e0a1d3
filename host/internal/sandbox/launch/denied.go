package launch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxDenied bounds how many different pairs of process and call are kept.
const maxDenied = 256

// deniedCalls answers the calls that the filter does not allow and counts them.
type deniedCalls struct {
	mu    sync.Mutex
	count map[Denied]int
	lost  int
}

// notification and response are those of the kernel.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// serve returns when no process is left under the filter.
func (d *deniedCalls) serve(listener int) {
	defer unix.Close(listener) //nolint:errcheck // nothing was written to it
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil { //nolint:gosec // the kernel fills it in
			continue // the process is gone already
		}
		d.add(n)
		r := response{id: n.id, errno: -int32(errnoFor(uintptr(n.nr)))}
		_ = ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) //nolint:gosec // the process may be gone
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func (d *deniedCalls) add(n notification) {
	key := Denied{Process: processName(n.pid), Syscall: callName(uintptr(n.nr))}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count == nil {
		d.count = make(map[Denied]int)
	}
	if _, known := d.count[key]; !known && len(d.count) >= maxDenied {
		d.lost++
		return
	}
	d.count[key]++
}

// processName is what the process calls itself; it may lie.
func processName(pid uint32) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(name)), "?")
}

func (d *deniedCalls) list() []Denied {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Denied
	for key, count := range d.count {
		key.Count = count
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b Denied) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.Syscall, b.Syscall))
	})
	if d.lost > 0 {
		out = append(out, Denied{Process: "others", Syscall: "others", Count: d.lost})
	}
	return out
}
