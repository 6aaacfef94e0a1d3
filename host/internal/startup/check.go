package startup

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/config"
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

// checkLoaded finds what only shows when the configuration is put into effect.
func checkLoaded(cfg *config.Config) config.Diagnostics {
	return slices.Concat(checkWorkspaces(cfg), checkTraces(cfg), checkProtocols(cfg), checkRules(cfg))
}
