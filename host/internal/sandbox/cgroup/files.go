package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuPeriod is the time over which processor time is shared out, in
// microseconds.
const cpuPeriod = 100_000

// setting is a control file and what to write to it.
type setting struct {
	file, value string
	optional    bool // not every kernel has the file
}

// settings of one limit.
func settings(version Version, r Resource, l Limits) []setting {
	bytes, pids := strconv.FormatInt(l.Memory, 10), strconv.Itoa(l.PIDs)
	period, quota := strconv.Itoa(cpuPeriod), strconv.FormatInt(int64(l.CPUs*cpuPeriod+0.5), 10)
	switch {
	case r == Memory && version == V2:
		return []setting{
			{"memory.max", bytes, false},
			{"memory.swap.max", "0", true},  // no swap beside it
			{"memory.oom.group", "1", true}, // all or nothing: half a plugin is none
		}
	case r == Memory:
		return []setting{{"memory.limit_in_bytes", bytes, false}, {"memory.memsw.limit_in_bytes", bytes, true}}
	case r == PIDs:
		return []setting{{"pids.max", pids, false}}
	case version == V2:
		return []setting{{"cpu.max", quota + " " + period, false}}
	}
	return []setting{{"cpu.cfs_period_us", period, false}, {"cpu.cfs_quota_us", quota, false}}
}

// limit puts limits in force. The error is a [*LimitError].
func (g *Group) limit(l Limits) error {
	for _, r := range Resources() {
		if !l.Has(r) {
			continue
		}
		for _, s := range settings(g.version, r, l) {
			err := write(filepath.Join(g.path(string(r)), s.file), s.value)
			if err != nil && (!s.optional || !errors.Is(err, os.ErrNotExist)) {
				return &LimitError{r, err}
			}
		}
	}
	return nil
}

// gauge is a number in a control file.
type gauge struct {
	controller string
	file, key  string // key, where the file has several numbers
	to         func(*Usage) *int64
}

var gauges = map[Version][]gauge{
	V2: {
		{"memory", "memory.current", "", func(u *Usage) *int64 { return &u.Memory }},
		{"memory", "memory.peak", "", func(u *Usage) *int64 { return &u.MemoryPeak }},
		{"memory", "memory.events", "oom_kill", func(u *Usage) *int64 { return &u.OOMKills }},
		{"pids", "pids.current", "", func(u *Usage) *int64 { return &u.PIDs }},
		{"pids", "pids.peak", "", func(u *Usage) *int64 { return &u.PIDsPeak }},
		{"pids", "pids.events", "max", func(u *Usage) *int64 { return &u.PIDsRefused }},
	},
	V1: {
		{"memory", "memory.usage_in_bytes", "", func(u *Usage) *int64 { return &u.Memory }},
		{"memory", "memory.max_usage_in_bytes", "", func(u *Usage) *int64 { return &u.MemoryPeak }},
		{"memory", "memory.oom_control", "oom_kill", func(u *Usage) *int64 { return &u.OOMKills }},
		{"pids", "pids.current", "", func(u *Usage) *int64 { return &u.PIDs }},
		{"pids", "pids.peak", "", func(u *Usage) *int64 { return &u.PIDsPeak }},
		{"pids", "pids.events", "max", func(u *Usage) *int64 { return &u.PIDsRefused }},
		{"cpuacct", "cpuacct.usage", "", func(u *Usage) *int64 { return (*int64)(&u.CPU) }},
	},
}

// Usage reads what the group uses. After Remove it is all zero.
func (g *Group) Usage() (Usage, error) {
	var u Usage
	var failed []error
	for _, gg := range gauges[g.version] {
		dir := g.path(gg.controller)
		if dir == "" {
			continue
		}
		n, err := readNumber(filepath.Join(dir, gg.file), gg.key)
		if err != nil {
			failed = append(failed, err)
		}
		*gg.to(&u) = n
	}
	if g.version == V2 { // every v2 cgroup counts time, whatever its controllers
		n, err := readNumber(filepath.Join(g.dirs[0].path, "cpu.stat"), "usage_usec")
		if err != nil {
			failed = append(failed, err)
		}
		u.CPU = time.Duration(n) * time.Microsecond
	}
	return u, errors.Join(failed...)
}

// OOMKills returns how many processes of the group the kernel has killed for
// want of memory; zero when it does not tell.
func (g *Group) OOMKills() int64 {
	dir := g.path(string(Memory))
	if dir == "" {
		return 0
	}
	for _, gg := range gauges[g.version] {
		if gg.key == "oom_kill" {
			n, err := readNumber(filepath.Join(dir, gg.file), gg.key)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// readNumber reads the number in a file, or the one after key; zero when there
// is none.
func readNumber(path, key string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, ignoreGone(err)
	}
	if key == "" {
		return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name == key {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, nil
}
