package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
)

// diskBlock is what is expected of the file system that holds the label.
type diskBlock struct {
	MaxUsed   *float64 `json:"max_used"`
	MinFree   string   `json:"min_free"`
	MaxInodes *float64 `json:"max_inodes"`
}

func (b diskBlock) check(path string) (*check, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, invalid("", "Label the block with an absolute path.", "%q is no absolute path", path)
	}
	if err := percent("max_used", b.MaxUsed); err != nil {
		return nil, err
	}
	if err := percent("max_inodes", b.MaxInodes); err != nil {
		return nil, err
	}
	var minFree uint64
	if b.MinFree != "" {
		var err error
		if minFree, err = size("min_free", b.MinFree); err != nil {
			return nil, err
		}
	}
	var expected []string
	if b.MaxUsed != nil {
		expected = append(expected, fmt.Sprintf("at most %g %% used", *b.MaxUsed))
	}
	if minFree > 0 {
		expected = append(expected, "at least "+b.MinFree+" free")
	}
	if b.MaxInodes != nil {
		expected = append(expected, fmt.Sprintf("at most %g %% of the inodes used", *b.MaxInodes))
	}
	if len(expected) == 0 {
		return nil, invalid("", "Set max_used, min_free or max_inodes.", "nothing is expected of %s", path)
	}
	c := &check{expected: strings.Join(expected, ", "), remedy: "free space on the file system, or make it larger"}
	c.failing = func(ctx context.Context) (string, error) {
		u, err := disk.UsageWithContext(ctx, path)
		if err != nil {
			return "", err
		}
		switch {
		case b.MaxUsed != nil && u.UsedPercent > *b.MaxUsed:
			return fmt.Sprintf("%s is %.1f %% full; expected is at most %g %%", path, u.UsedPercent, *b.MaxUsed), nil
		case u.Free < minFree:
			return fmt.Sprintf("%s has %s free; expected is at least %s", path, sizeText(u.Free), b.MinFree), nil
		case b.MaxInodes != nil && u.InodesUsedPercent > *b.MaxInodes:
			return fmt.Sprintf("%s has used %.1f %% of its inodes; expected is at most %g %%", path, u.InodesUsedPercent, *b.MaxInodes), nil
		}
		return "", nil
	}
	return c, nil
}

// memoryBlock is what is expected of the memory.
type memoryBlock struct {
	MaxUsed *float64 `json:"max_used"`
	MaxSwap *float64 `json:"max_swap"`
}

func (b memoryBlock) check() (*check, error) {
	if err := percent("max_used", b.MaxUsed); err != nil {
		return nil, err
	}
	if err := percent("max_swap", b.MaxSwap); err != nil {
		return nil, err
	}
	var expected []string
	if b.MaxUsed != nil {
		expected = append(expected, fmt.Sprintf("at most %g %% in use", *b.MaxUsed))
	}
	if b.MaxSwap != nil {
		expected = append(expected, fmt.Sprintf("at most %g %% of the swap in use", *b.MaxSwap))
	}
	if len(expected) == 0 {
		return nil, invalid("", "Set max_used or max_swap.", "nothing is expected of the memory")
	}
	c := &check{expected: strings.Join(expected, ", "), remedy: "end what takes the memory, or add some"}
	c.failing = func(ctx context.Context) (string, error) {
		m, err := mem.VirtualMemoryWithContext(ctx)
		if err != nil {
			return "", err
		}
		if b.MaxUsed != nil && m.UsedPercent > *b.MaxUsed {
			return fmt.Sprintf("%.1f %% of the memory is in use; expected is at most %g %%", m.UsedPercent, *b.MaxUsed), nil
		}
		if b.MaxSwap == nil {
			return "", nil
		}
		s, err := mem.SwapMemoryWithContext(ctx)
		if err != nil {
			return "", err
		}
		if s.UsedPercent > *b.MaxSwap {
			return fmt.Sprintf("%.1f %% of the swap is in use; expected is at most %g %%", s.UsedPercent, *b.MaxSwap), nil
		}
		return "", nil
	}
	return c, nil
}

// loadBlock is what is expected of the processors.
type loadBlock struct {
	MaxPerCPU float64 `json:"max_per_cpu"`
}

func (b loadBlock) check() (*check, error) {
	if b.MaxPerCPU <= 0 {
		return nil, invalid("max_per_cpu", "Set it to more than 0, such as 2.", "%g is no load", b.MaxPerCPU)
	}
	c := &check{expected: fmt.Sprintf("at most %g for each processor", b.MaxPerCPU), remedy: "see what keeps the processors busy"}
	c.failing = func(ctx context.Context) (string, error) {
		n, err := cpu.CountsWithContext(ctx, true)
		if err != nil || n == 0 {
			return "", fmt.Errorf("count processors: %w", err)
		}
		l, err := load.AvgWithContext(ctx)
		if err != nil {
			return "", err
		}
		if each := l.Load5 / float64(n); each > b.MaxPerCPU {
			return fmt.Sprintf("the load of the last 5 minutes is %.1f for each of %s; expected is at most %g", each, plural(n, "processor", "processors"), b.MaxPerCPU), nil
		}
		return "", nil
	}
	return c, nil
}
