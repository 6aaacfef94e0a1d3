package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// hostMemory is how much a host may need, in bytes, whatever its plugins do.
const hostMemory = 512 << 20

// peak is the most memory that a process has had, in bytes.
func peak(t *testing.T, pid int) int {
	t.Helper()
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no peak in %s", content)
	return 0
}

// hostileHost is a host with the ill-behaved plugin in service, which behaves.
func hostileHost(t *testing.T) *host {
	t.Helper()
	return hostileHostWith(t, "good", quick)
}

// hostileHostWith is one whose plugin has a mode and settings of its own.
func hostileHostWith(t *testing.T, mode, settings string) *host {
	t.Helper()
	s := newSite(t)
	s.write("README.md", readme)
	s.write("a.bad", "bad\n")
	command := s.install("hostile", hostile(t))
	s.configure(hostilePlugin(command, "good", settings))
	s.lock()
	s.configure(hostilePlugin(command, mode, settings))
	return s.up()
}

func (h *host) done() string { return h.dir + "/plugins/hostile.done" }

// A plugin that serves well and misbehaves beside it does its work; its host
// and its neighbour do not suffer, and it ends with everything it has started.
func TestIllBehavedPlugin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode  string
		done  bool // it tells when it has done its worst
		drops bool // the status counts what was dropped
		logs  string
		// It does its worst before it serves, which takes a busy machine its time.
		patient bool
	}{
		{mode: "flood-stdout", done: true, logs: "wrote to standard output"},
		{mode: "flood-stderr", done: true, drops: true, logs: "a line that means nothing at all"},
		{mode: "long-line", done: true, logs: "xxxxxxxx", patient: true},
		{mode: "long-stdout", done: true, logs: "wrote to standard output"},
		{mode: "bad-json", done: true, logs: `{"@message":1}`},
		{mode: "ignore-term"},
		{mode: "grandchild"},
		{mode: "daemon"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			settings, deadline := quick, startDeadline
			if c.patient {
				deadline = patience
				settings = strings.Replace(quick, `start_timeout = "2s"`, fmt.Sprintf(`start_timeout = %q`, deadline), 1)
			}
			h := hostileHostWith(t, c.mode, settings)
			before := h.status()
			if c.done && !eventually(patience, func() bool { _, err := os.Stat(h.done()); return err == nil }) {
				t.Error("the plugin could not write what it wanted to")
			}
			reported(t, h.scan(), 0, 0, 0)
			find(t, h.gaps(), "hostile.bad", "a.bad")
			after := h.status()
			neighbour(t, before, after)
			p := plugin(after, "detector.hostile")
			if p.GetState() != "ready" || p.GetRestarts() != 0 {
				t.Errorf("the plugin was ended for it: %v", p)
			}
			if c.drops && p.GetDroppedLogLines() == 0 {
				t.Errorf("nothing was dropped: %v", p)
			}
			if n := peak(t, h.pid()); n > hostMemory {
				t.Errorf("the host took %d MiB", n>>20)
			}
			begin := time.Now()
			h.must(0, "plugin", "restart", "detector.hostile")
			if took := time.Since(begin); took > deadline+allowance {
				t.Errorf("restart took %v", took)
			}
			old := p.GetPid()
			h.waitWithin(stopDeadline+allowance, "the old process is gone", func(*apiv1.Status) bool {
				return syscall.Kill(int(old), 0) == syscall.ESRCH
			})
			h.stopInTime()
			log, err := os.ReadFile(h.data + "/logs/host.log")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(log), c.logs) {
				t.Errorf("the log does not say %q", c.logs)
			}
			if len(log) > 4<<20 {
				t.Errorf("the log has %d bytes", len(log))
			}
		})
	}
}

// A stopped process answers nothing and does not exit: the host ends it in time
// when it stops itself,
func TestStoppedPluginAndHostStops(t *testing.T) {
	t.Parallel()
	h := hostileHost(t)
	kill(t, h.plugin("detector.hostile").GetPid(), syscall.SIGSTOP)
	h.stopInTime()
}

// puts another in its place when asked to,
func TestStoppedPluginIsReplaced(t *testing.T) {
	t.Parallel()
	h := hostileHost(t)
	before := h.status()
	old := watchProcess(t, int(plugin(before, "detector.hostile").GetPid()))
	kill(t, int32(old.pid), syscall.SIGSTOP)
	if r := h.must(0, "plugin", "restart", "detector.hostile"); r.took > startDeadline+allowance {
		t.Errorf("restart: %v", r)
	}
	if !old.gone(stopDeadline + allowance) {
		t.Error("the stopped process is still there")
	}
	reported(t, h.scan(), 0, 0, 0)
	neighbour(t, before, h.status())
	h.stopInTime()
}

// and notices by itself, before a scan as during one.
func TestStoppedPluginIsNoticed(t *testing.T) {
	t.Parallel()
	for _, during := range []bool{false, true} {
		t.Run("during a scan "+strconv.FormatBool(during), func(t *testing.T) {
			t.Parallel()
			h := hostileHost(t)
			before := h.status()
			pid := plugin(before, "detector.hostile").GetPid()
			ended := make(chan *apiv1.ScanReport, 1)
			scan := func() {
				report, err := h.tryScan()
				if err != nil {
					t.Errorf("scan: %v", err)
				}
				ended <- report
			}
			if during {
				h.write("hostile.mode", "wait")
				go scan()
				h.waitFor("the scan is under way", func(st *apiv1.Status) bool { return plugin(st, "detector.hostile").GetInFlight() == 1 })
				stop(t, pid)
				h.remove("hostile.mode")
			} else {
				stop(t, pid)
				h.write("b.bad", "bad\n")
				go scan()
			}
			begin := time.Now()
			select {
			case report := <-ended:
				incomplete(t, report, "did not answer")
			case <-time.After(patience):
				t.Fatal("the scan does not end")
			}
			if took := time.Since(begin); took > callDeadline+allowance {
				t.Errorf("the scan took %v", took)
			}
			after := h.waitFor("the plugin is replaced", func(st *apiv1.Status) bool {
				p := plugin(st, "detector.hostile")
				return p.GetState() == "ready" && p.GetRestarts() == 1
			})
			if e := plugin(after, "detector.hostile").GetLastError(); e.GetReason() != "PLUGIN_UNHEALTHY" || e.GetRemedy() == "" {
				t.Errorf("the status says %v", e)
			}
			neighbour(t, before, after)
			if report := h.scan(); !report.GetComplete() {
				t.Errorf("the next scan: %v", report)
			}
			h.stopInTime()
		})
	}
}

// stop stops a process, and returns when none of its threads runs any more, which on
// a busy machine takes a moment.
func stop(t *testing.T, pid int32) {
	t.Helper()
	kill(t, pid, syscall.SIGSTOP)
	if !eventually(patience, func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return err == nil && len(stats) > 0 && !slices.ContainsFunc(stats, func(path string) bool {
			stat, err := os.ReadFile(path)
			_, state, _ := strings.Cut(string(stat), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		})
	}) {
		t.Fatalf("process %d does not stop", pid)
	}
}
