package startup

import (
	"context"

	"github.com/sop-host/sop/host/internal/answer"
	"github.com/sop-host/sop/host/internal/api"
)

// apiOptions are how the API is served: with the answers that are kept, page
// tokens that outlive the process, and the limits of the configuration in force.
func (h *host) apiOptions(ctx context.Context) ([]api.Option, error) {
	keeper, err := answer.NewKeeper(ctx, h.store.Answers(), h.secrets("api answers"), nil)
	if err != nil {
		return nil, err
	}
	return []api.Option{
		api.WithAnswers(keeper), api.WithPageKey(h.secrets("api pages")), api.WithLimits(h.apiLimits),
	}, nil
}

func (h *host) apiLimits() api.Limits {
	l := h.loaded.Load().config.API.Limits
	return api.Limits{
		RequestsPerSecond: float64(l.RequestsPerSecond), Burst: l.Burst, LimitSystem: l.System,
		MaxStreams: l.MaxStreams, MaxConnections: l.MaxConnections,
	}
}
