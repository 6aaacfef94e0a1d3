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

// client calls one host. Close it after use. What calls a service is made when it is
// asked for: each reads the descriptions of its messages.
type client struct {
	doer    connect.HTTPClient
	base    string // URL of the host
	process *http.Transport
	options []connect.ClientOption
}

func (c *client) agent() apiv1connect.AgentClient {
	return apiv1connect.NewAgentClient(c.doer, c.base, c.options...)
}

func (c *client) audit() apiv1connect.AuditClient {
	return apiv1connect.NewAuditClient(c.doer, c.base, c.options...)
}

func (c *client) backup() apiv1connect.BackupClient {
	return apiv1connect.NewBackupClient(c.doer, c.base, c.options...)
}

func (c *client) component() apiv1connect.ComponentClient {
	return apiv1connect.NewComponentClient(c.doer, c.base, c.options...)
}

func (c *client) emergency() apiv1connect.EmergencyClient {
	return apiv1connect.NewEmergencyClient(c.doer, c.base, c.options...)
}

func (c *client) event() apiv1connect.EventClient {
	return apiv1connect.NewEventClient(c.doer, c.base, c.options...)
}

func (c *client) gap() apiv1connect.GapClient {
	return apiv1connect.NewGapClient(c.doer, c.base, c.options...)
}

func (c *client) host() apiv1connect.HostClient {
	return apiv1connect.NewHostClient(c.doer, c.base, c.options...)
}

func (c *client) maintenance() apiv1connect.MaintenanceClient {
	return apiv1connect.NewMaintenanceClient(c.doer, c.base, c.options...)
}

func (c *client) patch() apiv1connect.PatchClient {
	return apiv1connect.NewPatchClient(c.doer, c.base, c.options...)
}

func (c *client) plugin() apiv1connect.PluginClient {
	return apiv1connect.NewPluginClient(c.doer, c.base, c.options...)
}

func (c *client) policy() apiv1connect.PolicyClient {
	return apiv1connect.NewPolicyClient(c.doer, c.base, c.options...)
}

func (c *client) protocol() apiv1connect.ProtocolClient {
	return apiv1connect.NewProtocolClient(c.doer, c.base, c.options...)
}

func (c *client) run() apiv1connect.RunClient {
	return apiv1connect.NewRunClient(c.doer, c.base, c.options...)
}

func (c *client) task() apiv1connect.TaskClient {
	return apiv1connect.NewTaskClient(c.doer, c.base, c.options...)
}

func (c *client) token() apiv1connect.TokenClient {
	return apiv1connect.NewTokenClient(c.doer, c.base, c.options...)
}

func (c *client) workspace() apiv1connect.WorkspaceClient {
	return apiv1connect.NewWorkspaceClient(c.doer, c.base, c.options...)
}

// newClientOf returns a client that calls the host at base through doer. A host on
// this machine is not asked to compress: that takes longer than to send it through
// a socket.
func newClientOf(doer connect.HTTPClient, process *http.Transport, base string) *client {
	c := &client{doer: doer, process: process, base: base}
	if base == baseURL {
		c.options = []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)}
	}
	return c
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
