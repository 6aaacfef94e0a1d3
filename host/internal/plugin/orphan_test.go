package plugin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hostEnv makes the test binary a host: its value is the run directory.
const hostEnv = "SOP_TEST_HOST"

// actAsHost runs plugins that leave descendants, says which processes there
// are, and waits to be killed.
func actAsHost(runDir string) {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	hash, err := HashFile(exe)
	if err != nil {
		panic(err)
	}
	pool, err := New(Options{RunDir: runDir})
	if err != nil {
		panic(err)
	}
	var specs []*Spec
	for _, mode := range []string{"good", "grandchild", "daemon"} {
		specs = append(specs, &Spec{
			Kind: "protocol", Name: mode, Command: exe, Env: []string{modeEnv + "=" + mode}, Hash: hash,
			StateDir: filepath.Join(runDir, "..", "state"), StartTimeout: 20 * time.Second, CallTimeout: time.Minute,
			StopGrace: time.Second, DrainTimeout: time.Second, Restart: DefaultRestartPolicy,
		})
	}
	if err := pool.Start(context.Background(), specs); err != nil {
		panic(err)
	}
	var pids []int
	for _, s := range pool.Status() {
		pids = append(pids, s.PID)
	}
	if err := json.NewEncoder(os.Stdout).Encode(pids); err != nil {
		panic(err)
	}
	block()
}

// When the host is killed with SIGKILL, every plugin and everything that the
// plugins started, detached or not, is gone within a second; the next host
// removes the directories.
func TestHostIsKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: containment depends on whether this kernel lets users make namespaces")
	}
	runDir := filepath.Join(t.TempDir(), "run")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), hostEnv+"="+runDir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	if err := json.Unmarshal(line, &pids); err != nil || len(pids) != 3 {
		t.Fatalf("%s: %v", line, err)
	}
	all := pids
	for _, pid := range pids {
		if pid == 0 {
			t.Fatal("a plugin did not start")
		}
		all = append(all, descendants(t, pid)...)
	}
	if len(all) < 5 {
		t.Fatalf("expected two descendants: %v", all)
	}
	gone := exits(t, all)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = cmd.Wait() // it was killed
	for pid, exited := range gone {
		if !exited(time.Second - time.Since(killed)) {
			t.Fatalf("process %d outlived the host by a second", pid)
		}
	}
	t.Logf("%d processes gone %v after the host", len(all), time.Since(killed).Round(time.Millisecond))
	if left, err := os.ReadDir(runDir); err != nil || len(left) != 3 {
		t.Fatalf("the killed host's directories: %v, %v", left, err)
	}
	groups := groupsNamed(t, "g-protocol.good-1-*")
	p, err := New(Options{RunDir: runDir})
	if err != nil {
		t.Fatal(err)
	}
	if why := p.starter.cgroups.Refused(); why != nil {
		t.Logf("no cgroups here: %v", why)
	} else if len(groups) == 0 {
		t.Error("the killed host had no cgroups")
	}
	for _, dir := range groups {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there after the next start: %v", dir, err)
		}
	}
	if left, err := os.ReadDir(runDir); err != nil || len(left) != 0 {
		t.Errorf("left after the next start: %v, %v", left, fmt.Sprint(err))
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// exits returns, for each process, a function that waits for its exit and says
// whether it came in time.
func exits(t *testing.T, pids []int) map[int]func(time.Duration) bool {
	t.Helper()
	out := make(map[int]func(time.Duration) bool)
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("open process %d: %v", pid, err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		out[pid] = func(d time.Duration) bool {
			for {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(d, 0).Milliseconds()))
				if !errors.Is(err, unix.EINTR) {
					return err == nil && n == 1
				}
			}
		}
	}
	return out
}
