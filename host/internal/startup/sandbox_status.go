package startup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/sandbox"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// probeTimeout bounds the probe at the start.
const probeTimeout = time.Minute

// sandboxLevels is what the probe has shown. The machine does not change, so it
// is asked once.
type sandboxLevels struct {
	found atomic.Pointer[probedLevels] // nil until it is known
}

type probedLevels struct {
	levels []sandbox.LevelProbe
	err    error
}

// needsSandbox says whether anything is configured that runs in one.
func needsSandbox(cfg *config.Config) bool {
	if len(cfg.SandboxProfiles) > 0 {
		return true
	}
	for i := range cfg.Plugins {
		if cfg.Plugins[i].SandboxProfile != "" || cfg.Plugins[i].Kind == "sandbox" {
			return true
		}
	}
	return false
}

// probe finds out what this machine allows. It returns when it is known.
func (s *sandboxLevels) probe(ctx context.Context, probe func(context.Context) ([]sandbox.LevelProbe, error)) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	found := new(probedLevels)
	found.levels, found.err = probe(ctx)
	s.found.Store(found)
}

// probeLevels probes when something needs it, at the start or after a reload,
// and says so in the status.
func (h *host) probeLevels(ctx context.Context) {
	for {
		reloaded := h.reloaded.Wait()
		if needsSandbox(h.loaded.Load().config) {
			h.levels.probe(ctx, askLauncher)
			h.changed.Tell()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-reloaded:
		}
	}
}

// askLauncher asks the launcher beside this program.
func askLauncher(ctx context.Context) (levels []sandbox.LevelProbe, err error) {
	runner, err := sandboxRunner()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	return runner.Probe(ctx)
}

// status is what the profiles of a configuration get; nil where none is needed.
func (s *sandboxLevels) status(cfg *config.Config) *apiv1.SandboxStatus {
	if !needsSandbox(cfg) {
		return nil
	}
	out := &apiv1.SandboxStatus{}
	found := s.found.Load()
	switch {
	case found == nil:
		out.Problem = "not known yet"
		return out
	case found.err != nil:
		out.Problem = found.err.Error()
		return out
	}
	for _, l := range found.levels {
		one := &apiv1.SandboxLevel{Level: string(l.Level), Works: l.Works}
		if l.Refusal != nil {
			one.Why = l.Refusal.String()
		}
		out.Levels = append(out.Levels, one)
	}
	for _, p := range profilesOf(cfg) {
		got := probed(p, found.levels)
		out.Profiles = append(out.Profiles, &apiv1.SandboxProfileStatus{Name: got.Name, Wants: got.Wants, Gets: got.Gets, Why: got.Why})
	}
	return out
}

// sandboxReasons are the profiles that are written down and cannot be had.
func sandboxReasons(cfg *config.Config, s *apiv1.SandboxStatus) []string {
	var reasons []string
	for _, p := range s.GetProfiles() {
		if p.GetGets() == "" && cfg.SandboxProfile(p.GetName()) != nil {
			reasons = append(reasons, fmt.Sprintf("sandbox_profile %s cannot be had: level %s is refused at %s", p.GetName(), p.GetWants(), p.GetWhy()))
		}
	}
	return reasons
}
