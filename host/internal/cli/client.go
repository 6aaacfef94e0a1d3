package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/socket"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk/fault"
)

const (
	baseURL = "http://sop"

	queryTimeout  = 30 * time.Second
	changeTimeout = 5 * time.Minute // what starts plugins
	scanTimeout   = 15 * time.Minute
)

// client calls one host. Close it after use.
type client struct {
	host   apiv1connect.HostClient
	plugin apiv1connect.PluginClient
	gap    apiv1connect.GapClient
	trees  apiv1connect.WorkspaceClient
	task   apiv1connect.TaskClient
	token  apiv1connect.TokenClient
	patch  apiv1connect.PatchClient
	audit  apiv1connect.AuditClient
	policy apiv1connect.PolicyClient
	agent  apiv1connect.AgentClient
	event  apiv1connect.EventClient

	component   apiv1connect.ComponentClient
	emergency   apiv1connect.EmergencyClient
	protocol    apiv1connect.ProtocolClient
	maintenance apiv1connect.MaintenanceClient
	backup      apiv1connect.BackupClient
	run         apiv1connect.RunClient
	process     *http.Transport
}

// newClientOf returns a client that calls the host at base through doer.
func newClientOf(doer connect.HTTPClient, process *http.Transport, base string) *client {
	return &client{
		host:   apiv1connect.NewHostClient(doer, base),
		plugin: apiv1connect.NewPluginClient(doer, base),
		gap:    apiv1connect.NewGapClient(doer, base),
		trees:  apiv1connect.NewWorkspaceClient(doer, base),
		patch:  apiv1connect.NewPatchClient(doer, base),
		task:   apiv1connect.NewTaskClient(doer, base),
		token:  apiv1connect.NewTokenClient(doer, base),
		audit:  apiv1connect.NewAuditClient(doer, base),
		agent:  apiv1connect.NewAgentClient(doer, base),
		policy: apiv1connect.NewPolicyClient(doer, base),
		event:  apiv1connect.NewEventClient(doer, base),

		component:   apiv1connect.NewComponentClient(doer, base),
		emergency:   apiv1connect.NewEmergencyClient(doer, base),
		protocol:    apiv1connect.NewProtocolClient(doer, base),
		maintenance: apiv1connect.NewMaintenanceClient(doer, base),
		backup:      apiv1connect.NewBackupClient(doer, base),
		run:         apiv1connect.NewRunClient(doer, base),
		process:     process,
	}
}

// Close lets go of the connection.
func (c *client) Close() { c.process.CloseIdleConnections() }

// connect returns a client of the host that the flags, the environment or the
// configuration name. Whether one runs, and what is wrong with flags that say how
// to reach it, shows with the first call.
func (a *app) connect() *client {
	doer, transport, base, err := a.dialer()
	if err != nil {
		return newClientOf(failing{here(err)}, &http.Transport{}, baseURL)
	}
	return newClientOf(doer, transport, base)
}

// newClient returns a client of the host that listens on a socket, as the user
// of this process.
func newClient(path string) *client {
	transport := socketTransport(path)
	return newClientOf(&http.Client{Transport: transport}, transport, baseURL)
}

func socketTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := socket.Dial(ctx, path)
		if err != nil {
			return nil, &dialError{socket: path, cause: err}
		}
		return conn, nil
	}}
}

// dialError says why no host could be reached.
type dialError struct {
	socket string
	cause  error
}

// Error implements error.
func (e *dialError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.cause }

func (e *dialError) explain() *fault.Error {
	switch {
	case errors.Is(e.cause, context.DeadlineExceeded), errors.Is(e.cause, os.ErrDeadlineExceeded):
		return timeoutError(e)
	case errors.Is(e.cause, context.Canceled):
		return fault.Errorf(codes.Canceled, "INTERRUPTED", "interrupted")
	case errors.Is(e.cause, os.ErrPermission):
		return fault.Errorf(codes.PermissionDenied, "SOCKET_DENIED", "the host's socket %s belongs to somebody else", e.socket).
			WithRemedy("run this as the user who runs `sop up`")
	}
	why := "nothing listens on"
	if !errors.Is(e.cause, os.ErrNotExist) && !errors.Is(e.cause, syscall.ECONNREFUSED) {
		why = e.cause.Error() + ":"
	}
	return fault.Errorf(codes.Unavailable, "HOST_UNREACHABLE", "the host is not running: %s %s", why, e.socket).
		WithRemedy("start it with `sop up`, or name the right one with --config or --socket")
}

// unreachable says that no host runs, as opposed to one that answered with an
// error.
func unreachable(err error) bool {
	var dial *dialError
	return errors.As(err, &dial) && explain(err).exit == exitUnreachable
}
