package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// crowd is twenty components, each a process and one that it started: half of them
// may survive their host, some of each ignore their signal.
type crowd struct {
	*site
	names   []string
	release map[string]int // of each one's block: another is another configuration
}

func newCrowd(s *site) *crowd {
	c := &crowd{site: s, release: make(map[string]int)}
	for n := range 10 {
		c.names = append(c.names, fmt.Sprintf("goes%d", n), fmt.Sprintf("stays%d", n))
	}
	return c
}

func survivor(name string) bool { return strings.HasPrefix(name, "stays") }

// write writes the configuration.
func (c *crowd) write() {
	var blocks []string
	for i, name := range c.names {
		script := "sleep 3600 & echo up; wait"
		if i%5 == 0 {
			script = "trap '' TERM; setsid sleep 3600 & echo up; while :; do wait; sleep 3600; done"
		}
		settings := []string{
			fmt.Sprintf("env = { WHO = %q, RELEASE = \"%d\" }", name, c.release[name]), `readiness { log = "up" }`, `stop { grace = "200ms" }`,
		}
		if survivor(name) {
			settings = append(settings, `survive = "adopt"`)
		}
		if i > 3 && i%4 == 3 {
			settings = append(settings, fmt.Sprintf("depends_on = [%q]", c.names[i-3]))
		}
		blocks = append(blocks, shellComponent(name, script, settings...))
	}
	c.configure(blocks...)
}

// process is one process of a component.
type process struct {
	pid      int
	instance string
	release  string
	started  uint64 // ticks
}

// census is what runs of each component, by name.
func (c *crowd) census() map[string][]process {
	c.t.Helper()
	out := make(map[string][]process)
	for _, pid := range c.processes() {
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err != nil {
			continue // it has gone
		}
		var who string
		p := process{pid: pid, started: startedAt(pid)}
		for variable := range strings.SplitSeq(string(env), "\x00") {
			if v, ok := strings.CutPrefix(variable, "WHO="); ok {
				who = v
			}
			if v, ok := strings.CutPrefix(variable, "SOP_COMPONENT_INSTANCE="); ok {
				p.instance = v
			}
			if v, ok := strings.CutPrefix(variable, "RELEASE="); ok {
				p.release = v
			}
		}
		if who != "" && p.started != 0 {
			out[who] = append(out[who], p)
		}
	}
	return out
}

// startedAt is when a process was started; 0: it has gone.
func startedAt(pid int) uint64 {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	const startField = 22 - 3 // the first two are cut off, and fields count from one
	if len(fields) <= startField || fields[0] == "Z" {
		return 0
	}
	at, err := strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return 0
	}
	return at
}

// tally counts what must not be.
type tally struct{ orphans, duplicates, wrong, adopted int }

// examine compares what runs with what the host says of it, and with what ran
// before the host was started.
func (c *crowd) examine(h *host, before map[string][]process, sum *tally) {
	c.t.Helper()
	st := h.status()
	hostStarted := startedAt(h.pid())
	now := c.census()
	for name, all := range now {
		is := component(st, name)
		main := slices.IndexFunc(all, func(p process) bool { return p.pid == int(is.GetPid()) })
		if main < 0 || is.GetState() != "ready" {
			c.t.Errorf("%s is %s with pid %d, and there are %v", name, is.GetState(), is.GetPid(), all)
			continue
		}
		for _, p := range all {
			switch {
			case p.instance != all[main].instance && isMain(p.pid):
				sum.duplicates++
				c.t.Errorf("%s runs twice: %s beside %s", name, describe(p.pid), describe(all[main].pid))
			case p.instance != all[main].instance:
				sum.orphans++
				c.t.Errorf("an orphan of %s: %s", name, describe(p.pid))
			}
		}
		if len(all) != 2 {
			c.t.Errorf("%s has %d processes: %v", name, len(all), all)
		}
		older := all[main].started < hostStarted
		if is.GetAdopted() {
			sum.adopted++
		}
		proven := slices.Contains(before[name], all[main]) && survivor(name) && all[main].release == strconv.Itoa(c.release[name])
		if is.GetAdopted() != older || older && !proven {
			sum.wrong++
			c.t.Errorf("%s: adopted %v, older than the host %v, proven %v", name, is.GetAdopted(), older, proven)
		}
	}
	if len(now) != len(c.names) {
		c.t.Errorf("%d components run, not %d", len(now), len(c.names))
	}
}

// isMain says whether it is what the host started.
func isMain(pid int) bool {
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && strings.HasPrefix(string(cmdline), "/bin/sh\x00")
}

// A host is killed again and again, at rest and wherever its start has got to, and
// now and then a component is configured anew before the next one. It takes back
// only what it left, may keep and can prove; all else is ended; nothing runs twice.
func TestHostIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	kills := 5
	if os.Getenv("SOP_TEST_LONG") != "" {
		kills = 100
	}
	c := newCrowd(newSite(t))
	c.write()
	c.lock()
	var sum tally
	var before map[string][]process
	for round := range kills {
		h := c.start()
		if round%3 == 1 { // somewhere in its start
			h.awaitLines(rand.IntN(6 * len(c.names)))
		} else {
			h.waitUp()
			c.examine(h, before, &sum)
		}
		h.kill()
		before = c.census()
		if round%4 == 3 {
			c.release[c.names[rand.IntN(len(c.names))]]++
			c.write()
		}
	}
	h := c.start()
	h.waitUp()
	c.examine(h, before, &sum)
	h.stopInTime()
	c.noProcesses()
	t.Logf("%d kills with %d components: %d orphans, %d duplicates, %d wrong adoptions; %d taken back", kills, len(c.names), sum.orphans, sum.duplicates, sum.wrong, sum.adopted)
}
