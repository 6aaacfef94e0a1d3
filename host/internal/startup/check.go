package startup

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/plugin"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// CheckReload implements nexus.Host.
func (h *host) CheckReload(ctx context.Context) (*apiv1.ReloadVerdict, error) {
	plan, err := h.Plan(ctx)
	if err != nil {
		return nil, err
	}
	v := &apiv1.ReloadVerdict{At: timestamppb.Now(), Ok: true, Trigger: "request", Changes: plan.GetChanges(), Diagnostics: plan.GetDiagnostics()}
	for _, d := range plan.GetDiagnostics() {
		v.Ok = v.GetOk() && d.GetSeverity() != "error"
	}
	return v, nil
}

// checkLocked finds the programs that changes would start and that the lock file does
// not have as they are, which are refused.
func checkLocked(next *loaded, changes []config.Change) (diags config.Diagnostics) {
	for _, s := range next.specs {
		started := slices.ContainsFunc(changes, func(c config.Change) bool {
			return c.Object == config.ObjectPlugin && c.ID == s.ID() && (c.Action == config.ActionStart || c.Action == config.ActionRestart)
		})
		if !started {
			continue
		}
		if err := plugin.CheckLocked(s); err != nil {
			diags = append(diags, preparationError(next, &plugin.PrepareError{ID: s.ID(), Err: err})...)
		}
	}
	return diags
}

// checkLoaded finds what only shows when the configuration is put into effect.
func checkLoaded(cfg *config.Config) config.Diagnostics {
	return slices.Concat(checkWorkspaces(cfg), checkTraces(cfg), checkProtocols(cfg), checkRules(cfg))
}
