package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// confinedPool is a pool that can limit want; the test is skipped where the
// kernel lets it not.
func confinedPool(t *testing.T, want ...cgroup.Resource) *testPool {
	t.Helper()
	p := newPool(t)
	if err := p.starter.cgroups.Refused(); err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	for _, r := range want {
		if err := p.starter.cgroups.Missing(r); err != nil {
			t.Skipf("no limit of %s here: %v", r, err)
		}
	}
	return p
}

// cgroupOf is the cgroup that a process is in, by the controller pids in v1.
func cgroupOf(t *testing.T, text string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && strings.Contains(fields[2], "/sop-") {
			return filepath.Base(fields[2])
		}
	}
	return ""
}

// Each generation begins in a cgroup of its own, what it starts is there too, a
// replaced one's is removed, and the next has another.
func TestGenerationHasACgroupOfItsOwn(t *testing.T) {
	p := confinedPool(t, cgroup.PIDs)
	spec := newSpec(t, "p", "daemon")
	p.start(spec)
	first, err := handle(t.Context(), p.client("p"), "cgroup", "")
	if err != nil {
		t.Fatal(err)
	}
	s := p.status("p")
	if s.Cgroup == "" || s.CgroupRefused != "" || s.Limits != (Limits{PIDs: DefaultPIDs}) {
		t.Errorf("cgroup %q (%s), limits %+v", s.Cgroup, s.CgroupRefused, s.Limits)
	}
	if s.Usage.PIDs < 3 || s.Usage.CPU == 0 {
		t.Errorf("usage %+v", s.Usage)
	}
	name := cgroupOf(t, first)
	if !strings.HasPrefix(name, "g-protocol.p-1-") {
		t.Errorf("it began in %q: %s", name, first)
	}
	grandchildren := descendants(t, s.PID)
	if len(grandchildren) == 0 {
		t.Fatal("no descendants")
	}
	for _, pid := range grandchildren {
		data, err := os.ReadFile("/proc/" + itoa(pid) + "/cgroup")
		if err != nil || cgroupOf(t, string(data)) != name {
			t.Errorf("a grandchild is in %s, %v", data, err)
		}
	}
	gone := exits(t, append(grandchildren, s.PID))
	if err := p.Restart(t.Context(), "protocol.p"); err != nil {
		t.Fatal(err)
	}
	second, err := handle(t.Context(), p.client("p"), "cgroup", "")
	if err != nil {
		t.Fatal(err)
	}
	if next := cgroupOf(t, second); next == name || next == "" {
		t.Errorf("the next generation is in %q", next)
	}
	for pid, exited := range gone {
		if !exited(5 * time.Second) {
			t.Errorf("process %d outlived its generation", pid)
		}
	}
	p.await("the first generation's cgroup is removed", func() bool { return len(groupsNamed(t, name)) == 0 })
}

// groupsNamed finds cgroups by name, where this process's are made.
func groupsNamed(t *testing.T, name string) []string {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(own)) {
		path := strings.SplitN(strings.TrimSpace(line), ":", 3)[2]
		for _, pattern := range []string{"/sys/fs/cgroup" + path, "/sys/fs/cgroup" + filepath.Dir(path), "/sys/fs/cgroup/*" + path} {
			more, err := filepath.Glob(filepath.Join(pattern, "sop-*", name))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, more...)
		}
	}
	return found
}

// The memory limit ends who exceeds it, the status says so with the remedy, and
// the neighbour notices nothing.
func TestMemoryLimit(t *testing.T) {
	p := confinedPool(t, cgroup.Memory)
	spec := newSpec(t, "p", "good")
	spec.Limits.Memory = 192 << 20
	p.start(spec, newSpec(t, "neighbour", "good"))
	before := p.status("neighbour")
	if got := p.status("p").Limits.Memory; got != spec.Limits.Memory {
		t.Errorf("limit %d", got)
	}
	if _, err := handle(t.Context(), p.client("p"), "eat", ""); sdk.FromError(err) == nil || sdk.FromError(err).Reason != ReasonOutOfMemory {
		t.Errorf("the call answered %v", err)
	}
	p.await("it is back", func() bool { s := p.status("p"); return s.State == StateReady && s.Restarts == 1 })
	s := p.status("p")
	if s.LastError == nil || s.LastError.Reason != ReasonOutOfMemory || !strings.Contains(s.LastError.Remedy, "raise limits.memory") {
		t.Errorf("the cause is %+v", s.LastError)
	}
	if s.Usage.OOMKills != 0 {
		t.Errorf("the new generation is blamed: %+v", s.Usage)
	}
	after := p.status("neighbour")
	if after.PID != before.PID || after.Restarts != 0 || after.LastError != nil {
		t.Errorf("the neighbour: %+v", after)
	}
}

// What the limit ends during its start has that cause too, and what fails so
// over and over keeps the remedy.
func TestMemoryLimitDuringStart(t *testing.T) {
	p := confinedPool(t, cgroup.Memory)
	spec := newSpec(t, "p", "hungry")
	spec.Limits.Memory = 128 << 20
	p.start(spec)
	p.await("it has failed for good", func() bool { return p.status("p").State == StateFailed })
	e := p.status("p").LastError
	if e.Reason != ReasonCrashLoop || e.Metadata["last_reason"] != ReasonOutOfMemory || !strings.Contains(e.Remedy, "raise limits.memory") {
		t.Errorf("the cause is %+v", e)
	}
}

// A fork bomb gets no more processes than its limit, is told of, and ended.
func TestPIDsLimit(t *testing.T) {
	p := confinedPool(t, cgroup.PIDs)
	spec := newSpec(t, "p", "good")
	spec.Limits.PIDs = 64
	p.start(spec, newSpec(t, "neighbour", "good"))
	before := p.status("neighbour")
	answer, err := handle(t.Context(), p.client("p"), "forks", "")
	if err == nil && !strings.Contains(answer, "resource temporarily unavailable") {
		t.Errorf("it answered %s", answer)
	}
	// It may have died of it: a Go runtime that gets no thread does.
	if s := p.status("p"); err == nil && (s.Usage.PIDsRefused == 0 || s.Usage.PIDs > 64 || s.Usage.PIDs < 32) {
		t.Errorf("usage %+v", s.Usage)
	}
	if err := p.Restart(t.Context(), "protocol.p"); err != nil {
		t.Fatal(err)
	}
	if _, err := handle(t.Context(), p.client("p"), "echo", "x"); err != nil {
		t.Error(err)
	}
	if after := p.status("neighbour"); after.PID != before.PID || after.Restarts != 0 {
		t.Errorf("the neighbour: %+v", after)
	}
}

// A limit that was asked for is in force or the plugin does not run; without one
// it runs, and the status says why it has no cgroup.
func TestWithoutCgroups(t *testing.T) {
	p := newPool(t)
	open := p.starter.cgroups
	if err := open.Close(); err != nil { // its groups can no longer be made
		t.Fatal(err)
	}
	limited := newSpec(t, "limited", "good")
	limited.Limits.CPUs = 0.5
	p.start(limited, newSpec(t, "free", "good"))
	s := p.status("limited")
	if s.State != StateFailed || s.LastError.Reason != ReasonLimits || !strings.Contains(s.LastError.Message, "limits.cpus") || s.LastError.Remedy == "" {
		t.Errorf("limited: %s, %+v", s.State, s.LastError)
	}
	s = p.status("free")
	if s.State != StateReady || s.Cgroup != "" || s.CgroupRefused == "" || s.Limits != (Limits{}) {
		t.Errorf("free: %s, cgroup %q, refused %q, limits %+v", s.State, s.Cgroup, s.CgroupRefused, s.Limits)
	}
}

// A change of limits takes a new generation.
func TestLimitsAreIdentity(t *testing.T) {
	p := confinedPool(t, cgroup.PIDs)
	spec := newSpec(t, "p", "good")
	p.start(spec)
	next := spec.Clone()
	next.Limits.PIDs = 200
	change, err := p.Prepare(t.Context(), []*Spec{next})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	if s := p.status("p"); s.Generation != 2 || s.Limits.PIDs != 200 {
		t.Errorf("generation %d, limits %+v", s.Generation, s.Limits)
	}
}

// The thread that starts plugins is not the process's first, whose place in v1
// is that of the whole process's memory.
func TestLauncherThread(t *testing.T) {
	on := make(chan int)
	for range 50 {
		go cgroup.OnThread(func() { on <- unix.Gettid() })
		if tid := <-on; tid == os.Getpid() {
			t.Fatal("it ran on the first thread")
		}
	}
}
