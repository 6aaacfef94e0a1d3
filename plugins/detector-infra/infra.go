package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

const (
	checksAtOnce = 8
	// checkTimeout bounds one check that has no timeout of its own.
	checkTimeout = 10 * time.Second
)

// infra implements [detector.Detector].
type infra struct {
	settings atomic.Pointer[settings]
	// scanning is held by the scan that reads and writes the memory: scans of
	// two workspaces may overlap while the configuration names one of them.
	scanning sync.Mutex
	memory   string // file
}

func (d *infra) configure(_ context.Context, c *sdk.Config) error {
	s, err := decode(c)
	if err != nil {
		return err
	}
	d.settings.Store(s)
	d.memory = filepath.Join(c.StateDir, "checks.json")
	return nil
}

// Rules implements [detector.Detector].
func (*infra) Rules(context.Context) ([]*pluginv1.Rule, error) { return rules(), nil }

// Scan implements [detector.Detector].
func (d *infra) Scan(ctx context.Context, s *detector.Scan) error {
	settings := d.settings.Load()
	if settings == nil || s.Workspace != settings.workspace {
		return nil
	}
	d.scanning.Lock()
	defer d.scanning.Unlock()
	checks := make([]*check, 0, len(settings.checks))
	for _, c := range settings.checks {
		if s.Enabled(c.rule) {
			checks = append(checks, c)
		}
	}
	before, err := loadMemory(d.memory)
	if err != nil {
		// Without it every check begins anew: nothing that is wrong stays hidden
		// longer than a first time.
		s.Diagnose("", 0, "STATE_LOST", fmt.Sprintf("the checks begin anew: %v", err))
	}
	after := make(memory, len(checks))
	for i, r := range run(ctx, checks) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c := checks[i]
		if r.err != nil {
			s.Diagnose("", 0, "NOT_CHECKED", fmt.Sprintf("%s could not be checked: %v", c.subject, r.err))
		}
		state := before[c.key()].next(r, settings.patience)
		after[c.key()] = state
		if state.Open {
			s.Report(c.finding(state.Message))
		}
	}
	s.Cover(".")
	return after.save(d.memory)
}

// result is what one check found.
type result struct {
	failing string // empty: as expected
	err     error  // it could not be found out
}

// run does all checks, several at a time.
func run(ctx context.Context, checks []*check) []result {
	results := make([]result, len(checks))
	slots := make(chan struct{}, checksAtOnce)
	var wg sync.WaitGroup
	for i, c := range checks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			results[i].failing, results[i].err = c.failing(ctx)
		})
	}
	wg.Wait()
	return results
}
