package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// limited is a host whose ill-behaved plugin has limits; the test is skipped
// where the kernel lets this user set none.
func limited(t *testing.T, mode, limits string) *host {
	t.Helper()
	h := hostileHostWith(t, mode, quick+"\n  limits { "+limits+" }")
	if e := h.plugin("detector.hostile").GetLastError(); e.GetReason() == "PLUGIN_LIMITS_REFUSED" {
		t.Skipf("no limits here: %s", e.GetMessage())
	}
	return h
}

// noGroupsLeft says so of the cgroups that a plugin was in.
func noGroupsLeft(t *testing.T, groups []string) {
	t.Helper()
	for _, dir := range groups {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("left behind: %s", dir)
		}
	}
}

// cgroupsOf are those of a process that sop has made, as directories, where
// their hierarchy is mounted in the usual place.
func cgroupsOf(t *testing.T, pid int32) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if !strings.Contains(fields[2], "/sop-") {
			continue
		}
		dir := "/sys/fs/cgroup/" + fields[1] + fields[2]
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// A fork bomb gets as many processes as its limit allows; host and neighbour go
// on, the status tells, and a restart ends all of it in time.
func TestForkBomb(t *testing.T) {
	t.Parallel()
	h := limited(t, "fork-bomb", "\n    pids = 100\n  ")
	before := h.status()
	groups := cgroupsOf(t, plugin(before, "detector.hostile").GetPid())
	s := h.waitFor("the bomb has met its limit", func(s *apiv1.Status) bool {
		return plugin(s, "detector.hostile").GetUsage().GetPidsRefused() > 0
	})
	p := plugin(s, "detector.hostile")
	if n := p.GetUsage().GetPidsPeak(); n > 100 || p.GetLimits().GetPids() != 100 || p.GetCgroup() == "" {
		t.Errorf("%d processes and threads; %v", n, p)
	}
	out := h.must(0, "plugin", "show", "detector.hostile")
	if !strings.Contains(out.stdout, "raise limits.pids") {
		t.Errorf("plugin show says nothing of the limit:\n%s", out.stdout)
	}
	begin := time.Now()
	h.must(0, "plugin", "restart", "detector.hostile")
	if took := time.Since(begin); took > startDeadline+allowance {
		t.Errorf("restart took %v", took)
	}
	h.waitFor("the old cgroup is gone", func(*apiv1.Status) bool { return len(groups) == 0 || gone(groups) })
	neighbour(t, before, h.status())
	groups = cgroupsOf(t, h.plugin("detector.hostile").GetPid())
	h.stopInTime()
	noGroupsLeft(t, groups)
}

func gone(dirs []string) bool {
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			return false
		}
	}
	return true
}

// A memory bomb is killed at its limit, the status names that cause and the
// remedy, and host and neighbour go on.
func TestMemoryBomb(t *testing.T) {
	t.Parallel()
	h := limited(t, "memory-bomb", `memory = "256MiB"`)
	before := h.status()
	s := h.waitFor("the bomb is killed", func(s *apiv1.Status) bool {
		return plugin(s, "detector.hostile").GetLastError() != nil
	})
	e := plugin(s, "detector.hostile").GetLastError()
	if e.GetReason() != "PLUGIN_OUT_OF_MEMORY" && e.GetReason() != "PLUGIN_CRASH_LOOP" ||
		!strings.Contains(e.GetMessage(), "limits.memory") || !strings.Contains(e.GetRemedy(), "raise limits.memory") {
		t.Errorf("the cause is %v", e)
	}
	neighbour(t, before, h.status())
	if n := peak(t, h.pid()); n > hostMemory {
		t.Errorf("the host took %d MiB", n>>20)
	}
	h.stopInTime()
}

// A limit that cannot be understood is refused before anything starts, and one
// that changes takes a new generation.
func TestLimitsAreReloaded(t *testing.T) {
	t.Parallel()
	h := limited(t, "good", "pids = 200")
	before := h.status()
	command := h.dir + "/plugins/hostile"
	h.configure(hostilePlugin(command, "good", quick+"\n  limits { pids = 300 }"))
	after := h.reloaded(before)
	if p := plugin(after, "detector.hostile"); p.GetLimits().GetPids() != 300 || p.GetGeneration() != 2 {
		t.Errorf("after the reload: %v", p)
	}
	h.configure(hostilePlugin(command, "good", quick+"\n  limits { pids = 3 }"))
	refused := h.reloaded(after)
	if texts := strings.Join(diagnosticTexts(refused), "\n"); !strings.Contains(texts, `"pids" must be a whole number from 16`) {
		t.Errorf("the verdict says %s", texts)
	}
	if p := plugin(refused, "detector.hostile"); p.GetGeneration() != 2 {
		t.Errorf("after the refused reload: %v", p)
	}
}

// removeCgroups removes the empty cgroups that a killed host leaves when no
// other is started in its place.
func (h *host) removeCgroups() {
	record, err := os.ReadFile(h.data + "/run.cgroups")
	if err != nil {
		return // there are none, or they have been removed
	}
	for parent := range strings.Lines(string(record)) {
		parent = strings.TrimSpace(parent)
		groups, err := filepath.Glob(parent + "/g-*")
		if err != nil {
			h.t.Error(err)
		}
		for _, dir := range append(groups, parent) {
			if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
				h.t.Errorf("remove %s: %v", dir, err)
			}
		}
	}
}
