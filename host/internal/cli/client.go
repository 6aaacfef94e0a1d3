package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

const (
	baseURL = "http://sop"

	queryTimeout  = 30 * time.Second
	changeTimeout = 5 * time.Minute // what starts plugins
)

// client calls the host that listens on one socket. Close it after use.
type client struct {
	host    apiv1connect.HostClient
	plugin  apiv1connect.PluginClient
	gap     apiv1connect.GapClient
	token   apiv1connect.TokenClient
	audit   apiv1connect.AuditClient
	policy  apiv1connect.PolicyClient
	process *http.Transport
}

func newClient(socket string) *client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := api.Dial(ctx, socket)
		if err != nil {
			return nil, &dialError{socket: socket, cause: err}
		}
		return conn, nil
	}}
	doer := &http.Client{Transport: transport}
	return &client{
		host:    apiv1connect.NewHostClient(doer, baseURL),
		plugin:  apiv1connect.NewPluginClient(doer, baseURL),
		gap:     apiv1connect.NewGapClient(doer, baseURL),
		token:   apiv1connect.NewTokenClient(doer, baseURL),
		audit:   apiv1connect.NewAuditClient(doer, baseURL),
		policy:  apiv1connect.NewPolicyClient(doer, baseURL),
		process: transport,
	}
}

// Close lets go of the connection.
func (c *client) Close() { c.process.CloseIdleConnections() }

// connect returns a client of the host that the flags, the environment or the
// configuration name. Whether one runs shows with the first call.
func (a *app) connect() *client { return newClient(a.socket()) }

// dialError says why no host could be reached.
type dialError struct {
	socket string
	cause  error
}

// Error implements error.
func (e *dialError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.cause }

func (e *dialError) explain() *sdk.Error {
	switch {
	case errors.Is(e.cause, context.DeadlineExceeded), errors.Is(e.cause, os.ErrDeadlineExceeded):
		return timeoutError(e)
	case errors.Is(e.cause, context.Canceled):
		return sdk.Errorf(codes.Canceled, "INTERRUPTED", "interrupted")
	case errors.Is(e.cause, os.ErrPermission):
		return sdk.Errorf(codes.PermissionDenied, "SOCKET_DENIED", "the host's socket %s belongs to somebody else", e.socket).
			WithRemedy("run this as the user who runs `sop up`")
	}
	why := "nothing listens on"
	if !errors.Is(e.cause, os.ErrNotExist) && !errors.Is(e.cause, syscall.ECONNREFUSED) {
		why = e.cause.Error() + ":"
	}
	return sdk.Errorf(codes.Unavailable, "HOST_UNREACHABLE", "the host is not running: %s %s", why, e.socket).
		WithRemedy("start it with `sop up`, or name the right one with --config or --socket")
}

// unreachable says that no host runs, as opposed to one that answered with an
// error.
func unreachable(err error) bool {
	var dial *dialError
	return errors.As(err, &dial) && explain(err).exit == exitUnreachable
}
