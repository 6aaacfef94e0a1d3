package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often what sends no event is looked at.
const pollEvery = 20 * time.Millisecond

// eventually waits until ready returns true, and says whether it did in time.
func eventually(within time.Duration, ready func() bool) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ready() {
			return true
		}
		select {
		case <-deadline.C:
			return ready()
		case <-tick.C:
		}
	}
}

// watch is a process, held by its descriptor: its number may be used again, the
// descriptor stands for this one.
type watch struct {
	pid  int
	fd   int
	what string
}

// watchProcess holds on to a process until the test ends.
func watchProcess(t *testing.T, pid int) *watch {
	t.Helper()
	w, err := openWatch(pid)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(w.close)
	return w
}

func openWatch(pid int) (*watch, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	return &watch{pid: pid, fd: fd, what: describe(pid)}, nil
}

func (w *watch) close() { _ = unix.Close(w.fd) }

// gone says whether the process has exited within the time.
func (w *watch) gone(within time.Duration) bool {
	deadline := time.Now().Add(within)
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n > 0
	}
}

// describe names a process for people.
func describe(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return strconv.Itoa(pid)
	}
	return fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")))
}

// processes finds what runs in the site or on its behalf.
func (s *site) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if s.owns(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// owns says whether the site shows in a process's command line, environment,
// program or working directory.
func (s *site) owns(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	for _, link := range []string{"exe", "cwd"} {
		target, err := os.Readlink(filepath.Join(proc, link))
		if err == nil && (target == s.dir || strings.HasPrefix(target, s.dir+"/")) {
			return true
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		content, err := os.ReadFile(filepath.Join(proc, file))
		if err == nil && strings.Contains(string(content), s.dir+"/") {
			return true
		}
	}
	return false
}

// noProcesses asserts that nothing runs here any more, and ends what does.
func (s *site) noProcesses() {
	s.t.Helper()
	var left []int
	if eventually(time.Second, func() bool { left = s.processes(); return len(left) == 0 }) {
		return
	}
	for _, pid := range left {
		s.t.Errorf("process %s was left behind", describe(pid))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// allGone asserts that these processes exit, all within the same time.
func allGone(t *testing.T, within time.Duration, watches []*watch) {
	t.Helper()
	deadline := time.Now().Add(within)
	for _, w := range watches {
		if !w.gone(time.Until(deadline)) {
			t.Errorf("process %s still runs after %v", w.what, within)
		}
	}
}

// watchSite holds on to everything that runs here.
func (s *site) watchSite(except ...int) []*watch {
	var out []*watch
	for _, pid := range s.processes() {
		if slices.Contains(except, pid) {
			continue
		}
		if w, err := openWatch(pid); err == nil { // else it has gone since
			s.t.Cleanup(w.close)
			out = append(out, w)
		}
	}
	return out
}
