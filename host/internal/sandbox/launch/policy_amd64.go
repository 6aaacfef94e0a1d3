package launch

import "golang.org/x/sys/unix"

const (
	auditArch  = unix.AUDIT_ARCH_X86_64
	foreignBit = 0x40000000 // x32
)

// checkedHere are older forms of calls that are checked.
var checkedHere = []check{
	{call: unix.SYS_MKNOD, arg: 1, mask: unix.S_IFMT, in: []uint32{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK}},
	{call: unix.SYS_CHMOD, arg: 1, mask: unix.S_ISUID | unix.S_ISGID, in: []uint32{0}},
	{call: unix.SYS_ARCH_PRCTL, mask: ^uint32(0), in: []uint32{archCPUID}, without: true},
}

const archCPUID = 0x1012 // ARCH_SET_CPUID

// ownershipHere are older forms of calls that change whose a file is and who
// may do what with it.
var ownershipHere = []uintptr{unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT}

// allowedHere are older forms of calls that are allowed.
var allowedHere = []uintptr{
	unix.SYS_OPEN, unix.SYS_CREAT, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_GETDENTS,
	unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_LINK, unix.SYS_SYMLINK,
	unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT, unix.SYS_DUP2, unix.SYS_PIPE,
	unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD, unix.SYS_SIGNALFD, unix.SYS_INOTIFY_INIT,
	unix.SYS_ALARM, unix.SYS_PAUSE, unix.SYS_TIME, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_GETPGRP,
}
