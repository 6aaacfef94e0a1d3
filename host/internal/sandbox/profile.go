package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/egress"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A Level is how far a command is isolated.
type Level string

// The levels, from the strongest. DESIGN.md has what each consists of.
const (
	LevelStrict   Level = launch.LevelStrict
	LevelNSNoProc Level = launch.LevelNSNoProc
	LevelLandlock Level = launch.LevelLandlock
	LevelNone     Level = launch.LevelNone
)

// Levels lists all levels, the strongest first.
var Levels = []Level{LevelStrict, LevelNSNoProc, LevelLandlock, LevelNone}

// AtLeast says whether l isolates as far as other does.
func (l Level) AtLeast(other Level) bool {
	return slices.Index(Levels, l) >= 0 && slices.Index(Levels, l) <= slices.Index(Levels, other)
}

// A Profile is how a kind of command is run.
type Profile struct {
	Name     string       `json:"name"`
	Level    Level        `json:"level"`
	Limits   Limits       `json:"limits"`
	ReadOnly []string     `json:"read_only,omitempty"` // further trees of the host, at their own place
	Caches   []Cache      `json:"caches,omitempty"`    // of runs; plugins have none
	Network  egress.Rules `json:"network,omitzero"`    // likewise; the zero value is none
}

// Limits bound one run. Zero means the default.
type Limits struct {
	Wall        time.Duration `json:"wall_ns"`
	CPU         time.Duration `json:"cpu_ns"` // of each process
	MemoryBytes int64         `json:"memory"` // of all processes together
	Pids        int64         `json:"pids"`
	OpenFiles   int64         `json:"open_files"` // of each process
	OutputBytes int64         `json:"output"`     // of stdout and stderr, each
	DiskBytes   int64         `json:"disk"`       // changes, home and /tmp together
	Inodes      int64         `json:"inodes"`
}

// DefaultLimits are what a run gets that asks for nothing else.
var DefaultLimits = Limits{
	Wall: 10 * time.Minute, CPU: 10 * time.Minute, MemoryBytes: 4 << 30, Pids: 512, OpenFiles: 4096,
	OutputBytes: 1 << 20, DiskBytes: 1 << 30, Inodes: 200_000,
}

// DefaultProfile is in force where no other is named.
var DefaultProfile = Profile{Name: "default", Level: LevelStrict, Limits: DefaultLimits}

// OrDefault fills in what is zero.
func (l Limits) OrDefault() Limits {
	d := DefaultLimits
	for _, f := range []struct{ value, fallback *int64 }{
		{(*int64)(&l.Wall), (*int64)(&d.Wall)},
		{(*int64)(&l.CPU), (*int64)(&d.CPU)},
		{&l.MemoryBytes, &d.MemoryBytes},
		{&l.Pids, &d.Pids},
		{&l.OpenFiles, &d.OpenFiles},
		{&l.OutputBytes, &d.OutputBytes},
		{&l.DiskBytes, &d.DiskBytes},
		{&l.Inodes, &d.Inodes},
	} {
		if *f.value == 0 {
			*f.value = *f.fallback
		}
	}
	return l
}

// Validate refuses what no run can have.
func (p Profile) Validate() error {
	if !slices.Contains(Levels, p.Level) {
		return fmt.Errorf("profile %q: there is no level %q", p.Name, p.Level)
	}
	if err := errors.Join(p.validateCaches(), p.validateNetwork()); err != nil {
		return fmt.Errorf("profile %q: %w", p.Name, err)
	}
	l := p.Limits
	for _, value := range []int64{int64(l.Wall), int64(l.CPU), l.MemoryBytes, l.Pids, l.OpenFiles, l.OutputBytes, l.DiskBytes, l.Inodes} {
		if value < 0 {
			return fmt.Errorf("profile %q: a limit is negative", p.Name)
		}
	}
	return nil
}
