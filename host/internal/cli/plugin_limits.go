package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// cgroupText says what cgroup a plugin's process is in, or why in none.
func cgroupText(p *apiv1.PluginStatus) string {
	switch {
	case p.GetPid() == 0:
		return ""
	case p.GetCgroup() == "" && p.GetCgroupRefused() == "":
		return "" // a host that does not tell
	case p.GetCgroup() == "":
		return "none: " + p.GetCgroupRefused()
	case p.GetCgroupRefused() != "":
		return p.GetCgroup() + "; " + p.GetCgroupRefused()
	}
	return p.GetCgroup()
}

func limitsText(l *apiv1.PluginLimits) string {
	var parts []string
	if l.GetMemory() > 0 {
		parts = append(parts, "memory "+byteText(l.GetMemory()))
	}
	if l.GetPids() > 0 {
		parts = append(parts, fmt.Sprintf("%d processes and threads", l.GetPids()))
	}
	if l.GetCpus() > 0 {
		parts = append(parts, strconv.FormatFloat(l.GetCpus(), 'f', -1, 64)+" CPUs")
	}
	return strings.Join(parts, ", ")
}

func usageText(u *apiv1.PluginUsage) string {
	var parts []string
	if u.GetMemory() > 0 {
		parts = append(parts, fmt.Sprintf("memory %s (at most %s)", byteText(u.GetMemory()), byteText(u.GetMemoryPeak())))
	}
	if u.GetPids() > 0 {
		parts = append(parts, fmt.Sprintf("%d processes and threads (at most %d)", u.GetPids(), u.GetPidsPeak()))
	}
	if d := u.GetCpu().AsDuration(); d > 0 {
		parts = append(parts, d.Round(10*time.Millisecond).String()+" of CPU time")
	}
	return strings.Join(parts, ", ")
}

// limitsHit says what a plugin was kept from, and what to do about it.
func limitsHit(u *apiv1.PluginUsage) []string {
	var out []string
	if n := u.GetPidsRefused(); n > 0 {
		out = append(out, count(n, "process or thread was", "processes or threads were")+" not started: raise limits.pids if the plugin needs more")
	}
	if n := u.GetOomKills(); n > 0 {
		out = append(out, count(n, "process was", "processes were")+" killed for want of memory: raise limits.memory if the plugin needs more")
	}
	return out
}

// byteText writes a size for people: "1.5 GiB".
func byteText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, i := float64(n), 0
	for ; size >= 1024 && i < len(units)-1; i++ {
		size /= 1024
	}
	text := strconv.FormatFloat(size, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + " " + units[i]
}
