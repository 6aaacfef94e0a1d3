package startup

import (
	"context"
	"fmt"
	"time"

	"github.com/sop-host/sop/host/internal/pressure"
)

// The subsystems of the machine that the host runs on.
const (
	subsystemDisk   = "disk"
	subsystemMemory = "memory"
	subsystemAudit  = "audit"
)

// leastPressureWait bounds how often is looked.
const leastPressureWait = 100 * time.Millisecond

// gauge is one thing of the machine's that may run short.
type gauge struct {
	subsystem   string
	description string // with a place for the percentage and what is left
	remedy      string
	percent     float64
	read        func(ctx context.Context) (pressure.Reading, error)
}

// gauges are what is looked at, by the configuration in force.
func (h *host) gauges() []gauge {
	p := h.loaded.Load().config.Maintenance.Pressure
	return []gauge{
		{
			subsystemDisk, "The file system of the data_dir is %.0f%% full: %s.", "make room on it, keep fewer backups, or move data_dir",
			p.Disk, func(ctx context.Context) (pressure.Reading, error) { return pressure.Disk(ctx, string(h.dir)) },
		},
		{
			subsystemMemory, "%.0f%% of the machine's memory is used: %s.", "see what uses it, give components and plugins limits.memory, or add some",
			p.Memory, pressure.Memory,
		},
	}
}

// watchPressure asks for maintenance while disk or memory run short, until ctx is
// done.
func (h *host) watchPressure(ctx context.Context) {
	meters := make(map[string]*pressure.Meter)
	for ctx.Err() == nil {
		reloaded := h.reloaded.Wait()
		set := h.loaded.Load().config.Maintenance.Pressure
		for _, g := range h.gauges() {
			if meters[g.subsystem] == nil {
				meters[g.subsystem] = &pressure.Meter{}
			}
			h.lookAt(ctx, g, meters[g.subsystem], set.Margin)
		}
		timer := time.NewTimer(max(set.Interval, leastPressureWait))
		select {
		case <-ctx.Done():
		case <-reloaded:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// lookAt takes one reading.
func (h *host) lookAt(ctx context.Context, g gauge, m *pressure.Meter, margin float64) {
	r, err := g.read(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.logger.Warn("look for pressure", "subsystem", g.subsystem, "error", err)
		}
		return
	}
	switch m.Note(r.Percent, pressure.Threshold{Percent: g.percent, Margin: margin}) {
	case pressure.Rises:
		_ = h.maintained.File(ctx, g.subsystem, fmt.Sprintf(g.description, r.Percent, r.Left), g.remedy, "high") // logged
	case pressure.Ends:
		_ = h.maintained.Healthy(ctx, g.subsystem) // logged
	case pressure.None:
	}
}
