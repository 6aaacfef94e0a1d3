package launch

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A policy is what a seccomp filter decides. Whatever it does not allow is
// denied, recorded where a listener can be had.
type policy struct {
	arch    uint32
	foreign uint32 // bit of a system call number that marks another ABI; 0 for none
	allow   []uintptr
	checked []check
	refuse  []uintptr // with ENOSYS and without a record: every C library tries them
}

// A check allows a call by one argument.
type check struct {
	call uintptr
	arg  int
	// mask is applied to the low 32 bits; the kernel does not look at the
	// others of the arguments checked here, so no more may the filter.
	mask uint32
	// in lists the masked values that decide; without says that these are
	// the ones denied, instead of the ones allowed.
	in      []uint32
	without bool
	// then must allow the call as well, by another of its arguments; nil for
	// nothing more.
	then *check
}

const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16

	retAllow = unix.SECCOMP_RET_ALLOW
	retKill  = unix.SECCOMP_RET_KILL_PROCESS
	retDeny  = unix.SECCOMP_RET_USER_NOTIF
)

// compile writes the filter: the architecture first, then checks of arguments,
// then numbers. The kernel remembers which numbers are always allowed, so that
// the length of the list costs nothing per call.
func compile(p policy) []unix.SockFilter {
	code := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, p.arch, 1, 0),
		ret(retKill),
		load(dataNumber),
	}
	if p.foreign != 0 {
		code = append(code, jump(unix.BPF_JSET, p.foreign, 0, 1), ret(retKill))
	}
	for _, c := range p.checked {
		body := c.body()
		code = append(code, jump(unix.BPF_JEQ, uint32(c.call), 0, uint8(len(body))))
		code = append(code, body...)
	}
	for _, nr := range p.refuse {
		code = append(code, jump(unix.BPF_JEQ, uint32(nr), 0, 1), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	}
	for _, nr := range p.allow {
		code = append(code, jump(unix.BPF_JEQ, uint32(nr), 0, 1), ret(retAllow))
	}
	return append(code, ret(retDeny))
}

// body decides about a call whose number has matched; every path returns. One
// with more to come allows what in lists.
func (c check) body() []unix.SockFilter {
	hit, miss := uint32(retAllow), uint32(retDeny)
	if c.without {
		hit, miss = miss, hit
	}
	code := []unix.SockFilter{
		load(uint32(dataArgs + 8*c.arg)), // little-endian: the low half
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.mask},
	}
	if c.then == nil {
		for _, value := range c.in {
			code = append(code, jump(unix.BPF_JEQ, value, 0, 1), ret(hit))
		}
		return append(code, ret(miss))
	}
	for i, value := range c.in { // to what follows the refusal
		code = append(code, jump(unix.BPF_JEQ, value, uint8(len(c.in)-i), 0))
	}
	return append(append(code, ret(retDeny)), c.then.body()...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(how uint16, value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, Jt: yes, Jf: no, K: value}
}

func ret(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

// installFilter puts this thread, and what it becomes, under a filter, and
// returns a descriptor for whoever answers the denied calls.
//
// Where there can be no listener, since an outer filter has one or the kernel
// none, denied calls fail all the same, unrecorded, and the answer is -1.
func installFilter(code []unix.SockFilter) (listener int, err error) {
	listener, err = setFilter(code, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.19
		listener, err = setFilter(code, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL) {
		return listener, err
	}
	return -1, installSilently(code)
}

// installSilently puts the filter on such that denied calls fail, unrecorded.
func installSilently(code []unix.SockFilter) error {
	for i := range code {
		if code[i] == ret(retDeny) {
			code[i] = ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
		}
	}
	_, err := setFilter(code, 0)
	return err
}

func setFilter(code []unix.SockFilter, flags uintptr) (listener int, err error) {
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program))) //nolint:gosec // the kernel copies it
	runtime.KeepAlive(code)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
