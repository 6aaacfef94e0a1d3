package launch

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxDenied bounds how many different pairs of process and call are kept.
const maxDenied = 256

// deniedCalls answers the calls that the filter does not allow and counts them.
type deniedCalls struct {
	listener int // -1 for none
	count    map[deniedCall]int
	lost     int
	proc     procReader
}

// deniedCall is a Denied as it is counted.
type deniedCall struct {
	process [16]byte // the kernel gives no more
	length  int
	number  int32
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

// answer answers one call, where poll says that there is one.
func (d *deniedCalls) answer(revents int16) {
	switch {
	case revents == 0:
		return
	case revents&unix.POLLIN == 0: // no process is left under the filter
		_ = unix.Close(d.listener) // nothing was written to it
		d.listener = -1
		return
	}
	var n notification
	if ioctl(d.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil { //nolint:gosec // the kernel fills it in
		return // the process is gone already
	}
	d.add(&n)
	r := response{id: n.id, errno: -int32(errnoFor(uintptr(n.nr)))}
	_ = ioctl(d.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) //nolint:gosec // the process may be gone
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func (d *deniedCalls) add(n *notification) {
	key := deniedCall{number: n.nr}
	// What the process calls itself; it may lie.
	key.length = copy(key.process[:], bytes.TrimSuffix(d.proc.read(int(n.pid), "comm"), newline))
	if d.count == nil {
		d.count = make(map[deniedCall]int, maxDenied)
	}
	if _, known := d.count[key]; !known && len(d.count) >= maxDenied {
		d.lost++
		return
	}
	d.count[key]++
}

var newline = []byte("\n")

func (d *deniedCalls) list() []Denied {
	var out []Denied
	for key, count := range d.count {
		process := "?"
		if key.length > 0 {
			process = strings.ToValidUTF8(string(key.process[:key.length]), "?")
		}
		out = append(out, Denied{Process: process, Syscall: callName(uintptr(key.number)), Count: count})
	}
	slices.SortFunc(out, func(a, b Denied) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.Syscall, b.Syscall))
	})
	if d.lost > 0 {
		out = append(out, Denied{Process: "others", Syscall: "others", Count: d.lost})
	}
	return out
}
