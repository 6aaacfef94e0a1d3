package launch

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SeedArgs and SeedEnv start the stage of which every run gets a copy. It finds
// its socket as descriptor 3.
var (
	SeedArgs = []string{"sop-sandbox", "seed"}
	SeedEnv  = []string{"GOMAXPROCS=1", "GOGC=off"}
)

// Descriptors that a copy of the seed is given for a run, in this order. What
// comes after them are the ways into a cgroup: its directory, or the files of
// tasks in which it is to write itself down.
const (
	seedControl = iota
	seedStdin
	seedStdout
	seedStderr
	seedGroup
)

// KindLaunched is the seed's answer to each request, with a pidfd of the copy.
const KindLaunched = "launched"

const (
	seedTries = 4
	seedTime  = 5 * time.Second // more than it takes on any machine to be copied and say so
)

// runSeed makes the seed, which has one thread and so can be copied at any time,
// and waits for its end. Of Go's other threads one may hold a lock in the
// instant of the first copy, which would then never be opened: what does not
// get through the scheduler is thrown away.
func runSeed() int {
	debug.SetGCPercent(-1)
	if err := unix.CloseRange(controlFD+1, ^uint(0), 0); err != nil {
		return 1
	}
	warmUp()
	blockSignals(allSignals)
	for range seedTries {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return 1
		}
		pid, pidfd, err := fork(0, 0)
		switch {
		case err != nil:
			return 1
		case pid == 0:
			syscall.Exit(seed(pipe[1]))
		}
		CloseAll(append(pipe[1:], pidfd))
		if hasGrown(pipe[0]) {
			_ = reap(pid) // it ends when the host does
			return 0
		}
		CloseAll(pipe[:1])
		if err := killAndReap(pid); err != nil {
			return 1
		}
	}
	return 1
}

// warmUp makes what every copy would make again.
func warmUp() {
	for _, value := range []any{new(Plan), new(Message)} {
		if data, err := json.Marshal(value); err == nil {
			_ = json.Unmarshal(data, value) // it is its own
		}
	}
}

func hasGrown(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	deadline := time.Now().Add(seedTime)
	for {
		n, err := unix.Poll(poll, int(max(0, time.Until(deadline)).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n == 1 && poll[0].Revents&unix.POLLIN != 0
		}
	}
}

// seed says that it is well and makes a copy of itself for each request.
func seed(grown int) int {
	defaultSignals()
	kept := keepIDNamespace()
	setSignal(uintptr(unix.SIGCHLD), signalIgnored) // copies are nobody's to reap
	runtime.Gosched()
	if _, err := unix.Write(grown, []byte{1}); err != nil {
		return 1
	}
	CloseAll([]int{grown})
	s := newSeedSocket()
	for {
		n, oobn, err := s.receive()
		if err != nil || n == 0 {
			return 0 // the host is gone
		}
		pid, pidfd, err := fork(0, 0)
		switch {
		case err != nil:
			s.answer(-1)
		case pid == 0:
			return launchFor(s.oob[:oobn], kept)
		default:
			s.answer(pidfd)
		}
		_ = unix.CloseRange(usernsFD+1, ^uint(0), 0) // all that came and that was made
	}
}

// keepIDNamespace makes, for root, what all runs can share. It returns 0 where it
// cannot be had.
func keepIDNamespace() int {
	if os.Geteuid() != 0 {
		return 0
	}
	fd, err := idNamespace()
	if err == nil && fd != usernsFD {
		err = errors.Join(unix.Dup3(fd, usernsFD, unix.O_CLOEXEC), unix.Close(fd))
	}
	if err != nil {
		return 0
	}
	return usernsFD
}

// A seedSocket is the seed's end of its socket. It allocates nothing per request.
type seedSocket struct {
	data   [16]byte
	oob    []byte
	reply  []byte
	rights []byte // of one descriptor
}

// maxRights bounds the descriptors that come with one packet.
const maxRights = 16

func newSeedSocket() *seedSocket {
	return &seedSocket{
		oob: make([]byte, unix.CmsgSpace(4*maxRights)), reply: []byte(`{"kind":"` + KindLaunched + `"}`), rights: unix.UnixRights(0),
	}
}

func (s *seedSocket) receive() (n, oobn int, err error) {
	err = retry(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(controlFD, s.data[:], s.oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	return n, oobn, err
}

// answer sends the pidfd of a copy, or nothing but an empty word where there is
// none.
func (s *seedSocket) answer(pidfd int) {
	if pidfd < 0 {
		_ = unix.Sendmsg(controlFD, []byte("{}"), nil, nil, unix.MSG_NOSIGNAL) // the host may be gone
		return
	}
	binary.NativeEndian.PutUint32(s.rights[unix.CmsgLen(0):], uint32(pidfd))
	_ = unix.Sendmsg(controlFD, s.reply, s.rights, nil, unix.MSG_NOSIGNAL) // likewise
}

// launchFor makes this copy of the seed the launcher of one run.
func launchFor(oob []byte, userns int) int {
	setSignal(uintptr(unix.SIGCHLD), signalDefault)
	fds, err := received(oob)
	if err != nil || len(fds) < seedGroup {
		return 1
	}
	c, group := Control{controlFD}, fds[seedGroup:]
	for i, from := range []int{seedStdin, seedStdout, seedStderr} {
		if err := unix.Dup3(fds[from], i, 0); err != nil {
			return 1
		}
	}
	if err := unix.Dup3(fds[seedControl], c.FD, unix.O_CLOEXEC); err != nil {
		return 1
	}
	CloseAll(fds[:seedGroup])
	if _, err := unix.Setsid(); err != nil {
		return 1
	}
	if err := launcher(c, group, userns); err != nil {
		_ = c.Send(refusal(err)) // the host may be gone, and then nobody asks
		return 1
	}
	return 0
}

// enterGroup brings this process into its cgroup where that is done by writing;
// otherwise it returns the directory in which the next process begins.
func enterGroup(ways []int) (dir int, err error) {
	for _, fd := range ways {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return 0, err
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			dir = fd
			continue
		}
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return 0, err
		}
	}
	return dir, nil
}
