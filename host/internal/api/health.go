package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sop-host/sop/sdk"
)

// Health is the host as those see it who only ask whether it can be used.
type Health interface {
	// Readiness says how the host stands. It may be asked often.
	Readiness(ctx context.Context) Readiness
	// Changed returns a channel that is closed when that may have changed.
	Changed() <-chan struct{}
}

// Readiness is whether the host takes requests.
type Readiness struct {
	Ready bool `json:"-"`
	// State is "ok", "degraded", "starting", "stopping" or "unavailable".
	State string `json:"state"`
	// Reasons for any state but "ok", one sentence each.
	Reasons []string `json:"reasons,omitempty"`
}

// healthService is the name that probes ask for.
const healthService = "grpc.health.v1.Health"

// maxHealthRequest is more than any name of a service takes, in bytes.
const maxHealthRequest = 4 << 10

// healthTick is how often a watch looks without having been told of a change.
const healthTick = 5 * time.Second

// serveHealth serves grpc.health.v1 and /readyz, to anybody who can reach the
// socket: whether a host can be used is no secret, and probes have no identity.
func serveHealth(mux *http.ServeMux, d *door, host Health) {
	h := &health{door: d, host: host}
	limit := connect.WithReadMaxBytes(maxHealthRequest)
	mux.Handle("/"+healthService+"/Check", connect.NewUnaryHandler("/"+healthService+"/Check", h.check, limit))
	mux.Handle("/"+healthService+"/Watch", connect.NewServerStreamHandler("/"+healthService+"/Watch", h.watch, limit))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready := host.Readiness(r.Context())
		status := http.StatusOK
		if !ready.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, ready)
	})
}

// health serves grpc.health.v1.
type health struct {
	door *door
	host Health
}

func (h *health) check(ctx context.Context, req *connect.Request[grpc_health_v1.HealthCheckRequest]) (*connect.Response[grpc_health_v1.HealthCheckResponse], error) {
	status := h.status(ctx, req.Msg.GetService())
	if status == grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, wireError(sdk.Errorf(codes.NotFound, "SERVICE_UNKNOWN", "there is no such service").
			WithRemedy("leave the service empty, or ask reflection for the names"))
	}
	return connect.NewResponse(&grpc_health_v1.HealthCheckResponse{Status: status}), nil
}

func (h *health) watch(ctx context.Context, req *connect.Request[grpc_health_v1.HealthCheckRequest], stream *connect.ServerStream[grpc_health_v1.HealthCheckResponse]) error {
	ctx, cancel := h.door.untilClosing(ctx, nil)
	defer cancel()
	tick := time.NewTicker(healthTick)
	defer tick.Stop()
	last := grpc_health_v1.HealthCheckResponse_ServingStatus(-1)
	for {
		changed := h.host.Changed() // before the status, so that no change is missed
		if status := h.status(ctx, req.Msg.GetService()); status != last {
			if err := stream.Send(&grpc_health_v1.HealthCheckResponse{Status: status}); err != nil {
				return err
			}
			last = status
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			if last == grpc_health_v1.HealthCheckResponse_SERVING { // the host stops, or the caller has gone and does not hear it
				_ = stream.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING})
			}
			return nil
		}
	}
}

// status is that of one service; the empty name stands for the host.
func (h *health) status(ctx context.Context, service string) grpc_health_v1.HealthCheckResponse_ServingStatus {
	switch {
	case service != "" && !slices.Contains(services(), service):
		return grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
	case h.host.Readiness(ctx).Ready:
		return grpc_health_v1.HealthCheckResponse_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_NOT_SERVING
}
