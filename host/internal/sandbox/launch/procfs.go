package launch

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A procReader reads the small files of /proc without allocating.
type procReader struct {
	name [64]byte
	data [4096]byte
	list [4096]byte
}

// read returns what a file of a process begins with, until the next read;
// nothing when the process is gone.
func (r *procReader) read(pid int, file string) []byte {
	name := strconv.AppendInt(append(r.name[:0], "/proc/"...), int64(pid), 10)
	name = append(append(append(name, '/'), file...), 0)
	fd := openRaw(name, unix.O_RDONLY|unix.O_CLOEXEC)
	if fd < 0 {
		return nil
	}
	n, err := unix.Read(fd, r.data[:])
	_ = unix.Close(fd) // only read from
	if err != nil {
		return nil
	}
	return r.data[:n]
}

// openRaw opens what name, which ends in a NUL, names. It returns -1 where that
// cannot be done.
func openRaw(name []byte, flags int) int {
	dir := unix.AT_FDCWD
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags), 0, 0, 0) //nolint:gosec // as in unix
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// processes calls each for every process that can be seen.
func (r *procReader) processes(each func(pid int)) {
	fd := openRaw([]byte("/proc\x00"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if fd < 0 {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	for {
		n, err := unix.Getdents(fd, r.list[:])
		if n <= 0 || err != nil {
			return
		}
		for rest := r.list[:n]; len(rest) > 0; {
			entry := (*unix.Dirent)(unsafe.Pointer(&rest[0])) //nolint:gosec // the kernel has written it
			if pid := number(rest[unsafe.Offsetof(entry.Name):entry.Reclen]); pid > 0 {
				each(pid)
			}
			rest = rest[entry.Reclen:]
		}
	}
}

// number is what text begins with up to a NUL or a blank; 0 for none.
func number(text []byte) (n int) {
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			n = 10*n + int(c-'0')
		case c == 0 || c == ' ':
			return n
		default:
			return 0
		}
	}
	return n
}

// kilobytes returns what a line of a process's status says, in bytes.
func kilobytes(status []byte, name string) uint64 {
	at := bytes.Index(status, unsafe.Slice(unsafe.StringData(name), len(name))) //nolint:gosec // only read
	if at < 0 {
		return 0
	}
	return uint64(number(bytes.TrimLeft(status[at+len(name):], " \t"))) << 10
}
