package launch

import "golang.org/x/sys/unix"

const (
	auditArch  = unix.AUDIT_ARCH_AARCH64
	foreignBit = 0 // 32-bit programs have an architecture of their own
)

// checkedHere are checks of this architecture only.
var checkedHere []check

// ownershipHere are calls of this architecture only.
var ownershipHere []uintptr

// allowedHere are calls of this architecture only.
var allowedHere = []uintptr{unix.SYS_NEWFSTATAT, unix.SYS_RENAMEAT}
