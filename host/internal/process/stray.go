package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Seen is a process as /proc tells of it.
type Seen struct{ PID int }

// WorksIn says whether it works in dir, a true path, or beneath it. It does not
// where that cannot be told.
func (s Seen) WorksIn(dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.PID))
	return err == nil && strings.HasPrefix(strings.TrimSuffix(cwd, " (deleted)")+"/", dir+"/")
}

// HasEnv says whether it was executed with a variable, as NAME=VALUE.
func (s Seen) HasEnv(variable string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.PID))
	if err != nil {
		return false // gone, or another user's
	}
	needle := []byte(variable)
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(entry, needle) {
			return true
		}
	}
	return false
}

// EndAll kills every process but this one that match picks, and returns how many
// there were. It is for what has detached itself where neither a namespace nor a
// cgroup holds it. Match is asked again once the process cannot be mistaken for
// another.
func EndAll(match func(Seen) bool) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	found := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !match(Seen{pid}) {
			continue
		}
		if endSeen(Seen{pid}, match) {
			found++
		}
	}
	return found, nil
}

func endSeen(s Seen, match func(Seen) bool) bool {
	fd, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return false // gone
	}
	defer func() { _ = unix.Close(fd) }() // it is only a name
	return match(s) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}
