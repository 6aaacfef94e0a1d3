package launch

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	landlockRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR

	landlockWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE

	landlockAll = landlockRead | landlockWrite |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// landlockFile are the rights that a rule about a file may name.
	landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// landlockABI returns the version that the kernel speaks, 0 for none.
func landlockABI() int {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// handled returns what a ruleset for the version can deny.
func handled(abi int) (files uint64, rules unix.LandlockRulesetAttr) {
	files = landlockAll
	if abi < 2 {
		files &^= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi < 3 {
		files &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi < 5 {
		files &^= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	rules.Handled_access_fs = files
	if abi >= 6 {
		rules.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return files, rules
}

// landlockSize is how much of the attributes every version with scopes knows.
const landlockSize = 24

// sizeFor is how much of the attributes the version knows.
func sizeFor(abi int) uintptr {
	switch {
	case abi >= 6:
		return landlockSize
	case abi >= 4:
		return 16
	}
	return 8
}

var errNoLandlock = errors.New("the kernel has no landlock, or it is switched off")

// restrictFiles puts this thread, and what it becomes, into a landlock domain
// in which only the sandbox's own trees can be reached, even by a name or a
// descriptor from elsewhere, and from which no process outside gets a signal.
// The network is the namespace's business: servers and clients within the
// sandbox may talk.
func restrictFiles(plan *Plan) error {
	abi := landlockABI()
	if abi == 0 {
		return errNoLandlock
	}
	files, attr := handled(abi)
	if !plan.namespaced() && plan.Network != NetworkFull {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	ruleset, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), sizeFor(abi), 0) //nolint:gosec // the kernel copies it
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(ruleset)) //nolint:errcheck // nothing was written to it
	for _, rule := range landlockRules(plan) {
		if err := allowBeneath(int(ruleset), rule, files); err != nil {
			return err
		}
	}
	if plan.program > 0 {
		if err := allowAt(int(ruleset), plan.program, landlockRead&landlockFile&files); err != nil {
			return err
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

type landlockRule struct {
	path   string
	access uint64
}

func landlockRules(plan *Plan) []landlockRule {
	var rules []landlockRule
	if plan.namespaced() { // these are the sandbox's own
		rules = append(rules, landlockRule{"/", unix.LANDLOCK_ACCESS_FS_READ_DIR}, landlockRule{"/etc", landlockRead},
			landlockRule{"/dev", landlockRead}, landlockRule{"/proc", landlockRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE})
	}
	for _, dir := range plan.Writable {
		rules = append(rules, landlockRule{dir, landlockRead | landlockWrite})
	}
	for _, m := range plan.Mounts {
		access := uint64(landlockRead)
		if m.Device {
			access = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		}
		rules = append(rules, landlockRule{m.Target, access})
	}
	return rules
}

// allowBeneath allows a rule's access beneath its path, if there is one.
func allowBeneath(ruleset int, rule landlockRule, handled uint64) error {
	fd, err := unix.Open(rule.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	access := rule.access & handled
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= landlockFile
	}
	return allowAt(ruleset, fd, access)
}

// allowAt allows the access at, and beneath, what is open as fd.
func allowAt(ruleset, fd int, access uint64) error {
	// Packed, as the kernel wants it: 8 bytes of access, 4 of descriptor.
	attr := struct {
		access uint64
		fd     int32
	}{access, int32(fd)}
	if _, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 { //nolint:gosec // likewise
		return errno
	}
	return nil
}
