package pressure

import (
	"context"
	"fmt"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
)

// Reading is how much of something is used.
type Reading struct {
	Percent float64
	// Left says for people how much there is, and of how much.
	Left string
}

// Disk reads the file system that a directory is on, as whoever runs the host may
// fill it.
func Disk(ctx context.Context, dir string) (Reading, error) {
	u, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return Reading{}, fmt.Errorf("read the usage of the file system of %s: %w", dir, err)
	}
	return Reading{Percent: u.UsedPercent, Left: left(u.Free, u.Total)}, nil
}

// Memory reads the machine's, without what it gives up when it is needed.
func Memory(ctx context.Context) (Reading, error) {
	m, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return Reading{}, fmt.Errorf("read the usage of memory: %w", err)
	}
	if m.Total == 0 {
		return Reading{}, fmt.Errorf("the machine says that it has no memory")
	}
	return Reading{Percent: 100 - 100*float64(m.Available)/float64(m.Total), Left: left(m.Available, m.Total)}, nil
}

func left(free, total uint64) string {
	const mib = 1 << 20
	return fmt.Sprintf("%d of %d MiB are left", free/mib, total/mib)
}
