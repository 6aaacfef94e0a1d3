package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/proto/sop/plugin/v1/pluginv1connect"
	"github.com/sop-host/sop/sdk"
)

const (
	maxRequest    = 1 << 20 // bytes
	maxAnswer     = 16 << 20
	compressFrom  = 4 << 10 // smaller answers cost more to compress than to send
	maxHeader     = 64 << 10
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxH2Streams  = 128 // of one connection
)

// Server serves the API.
type Server struct {
	http     *http.Server
	plugins  http.Handler // see ServePlugin
	authn    *authenticator
	logger   hclog.Logger
	mux      *http.ServeMux
	door     *door
	observer *observer
	limiter  *limiter

	socket, tcp *entrance
}

// NewServer returns a server of n.
func NewServer(n *nexus.Nexus, options ...Option) *Server {
	o := newOptions(options)
	mux := http.NewServeMux()
	calls := newLimiter(o.limits, n.Audit)
	authn := newAuthenticator(n)
	authn.calls = calls
	d := &door{nexus: n, closing: make(chan struct{})}
	watch := &observer{}
	opts := connect.WithHandlerOptions(
		connect.WithCodec(strictJSON{jsonNames[0]}), connect.WithCodec(strictJSON{jsonNames[1]}),
		connect.WithReadMaxBytes(maxRequest),
		connect.WithCompressMinBytes(compressFrom),
		connect.WithSendMaxBytes(maxAnswer),
		connect.WithRecover(recovered(n.Logger)),
		connect.WithInterceptors(watch, calls, d, &pages{o.pages}, &idempotent{o.keeper, timeoutOf}),
	)
	mux.Handle(apiv1connect.NewHostHandler(&hostService{n}, opts))
	mux.Handle(apiv1connect.NewPluginHandler(&pluginService{n}, opts))
	mux.Handle(apiv1connect.NewComponentHandler(&componentService{n}, opts))
	mux.Handle(apiv1connect.NewEmergencyHandler(&emergencyService{n}, opts))
	mux.Handle(apiv1connect.NewWorkspaceHandler(&workspaceService{n}, opts))
	mux.Handle(apiv1connect.NewGapHandler(&gapService{n}, opts))
	mux.Handle(apiv1connect.NewPatchHandler(&patchService{n}, opts))
	mux.Handle(apiv1connect.NewTaskHandler(&taskService{n}, opts))
	mux.Handle(apiv1connect.NewTokenHandler(&tokenService{n}, opts))
	mux.Handle(apiv1connect.NewAuditHandler(&auditService{n}, opts))
	mux.Handle(apiv1connect.NewPolicyHandler(&policyService{n, authn.identities.Load}, opts))
	mux.Handle(apiv1connect.NewAgentHandler(&agentService{n}, opts))
	mux.Handle(apiv1connect.NewMaintenanceHandler(&maintenanceService{n}, opts))
	mux.Handle(apiv1connect.NewProtocolHandler(&protocolService{n}, opts))
	mux.Handle(apiv1connect.NewEventHandler(&eventService{n}, opts))
	mux.Handle(apiv1connect.NewBackupHandler(&backupService{n}, opts))
	mux.Handle(apiv1connect.NewRunHandler(&runService{n}, opts))
	describe(mux)
	plugins := http.NewServeMux()
	plugins.Handle("/", mux)
	plugins.Handle(pluginv1connect.NewHostHandler(&pluginHost{n}, opts))
	server := newHTTPServer(authn.wrap(withDetails(mux)), n.Logger)
	server.ConnContext = onConnect
	server.RegisterOnShutdown(d.close)
	s := &Server{http: server, plugins: withOrigins(withDetails(plugins)), authn: authn, logger: n.Logger, mux: mux, door: d, observer: watch, limiter: calls}
	most := func() int { return o.limits().MaxConnections }
	s.socket, s.tcp = newEntrance(waySocket, most, watch, n.Logger), newEntrance(wayTCP, most, watch, n.Logger)
	return s
}

// recovered answers a request whose handler has panicked, which is a fault of the host.
func recovered(logger hclog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(_ context.Context, spec connect.Spec, _ http.Header, cause any) error {
		logger.Error("a request could not be answered", "rpc", spec.Procedure, "panic", cause, "stack", string(debug.Stack()))
		return wireError(sdk.Errorf(codes.Internal, "HOST_FAULT", "the host has failed at this request, and what it had begun may be done by half").
			WithRemedy("see the host's log, and report what it says there; `sop doctor` examines the host"))
	}
}

// newHTTPServer returns a server with the bounds of all of ours.
func newHTTPServer(handler http.Handler, logger hclog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: &patience{handler, bodyTimeout, writeTimeout}, Protocols: &protocols, HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxH2Streams, WriteByteTimeout: writeTimeout, SendPingTimeout: idleTimeout, PingTimeout: writeTimeout,
		},
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}), // handshakes that fail
	}
}

// Serve serves on l, a unix socket, until Shutdown; it closes l.
func (s *Server) Serve(l net.Listener) error { return s.serve(s.socket.of(l)) }

func (s *Server) serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve api: %w", err)
	}
	return nil
}

// Identify takes over who is who by proofs from outside.
func (s *Server) Identify(ids *Identities) { s.authn.identities.Store(ids) }

// Shutdown lets calls finish until ctx is done and then cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	defer func() {
		s.limiter.flush()
		s.socket.flush()
		s.tcp.flush()
	}()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// door sends every call through the nexus before its handler, and every error
// through the one translation.
type door struct {
	nexus   *nexus.Nexus
	closing chan struct{} // closed when the server stops: streams end, calls may finish
	once    sync.Once
}

func (d *door) close() { d.once.Do(func() { close(d.closing) }) }

// WrapUnary implements [connect.Interceptor].
func (d *door) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, _, err := d.ask(ctx, req.Spec(), req.Header(), req.Any())
		if err != nil {
			return nil, wireError(err)
		}
		resp, err := next(ctx, req)
		return resp, d.failed(ctx, err)
	}
}

// WrapStreamingClient implements [connect.Interceptor]; the server has no clients.
func (d *door) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements [connect.Interceptor].
func (d *door) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		first, err := receiveFirst(conn)
		if err != nil {
			return wireError(err)
		}
		ctx, q, err := d.ask(ctx, conn.Spec(), conn.RequestHeader(), first.message)
		if err != nil {
			return wireError(err)
		}
		ctx, cancel := d.untilClosing(ctx, func(ctx context.Context) error { return d.stillAllowed(ctx, q) })
		defer cancel()
		err = next(ctx, first)
		if why := barred(ctx); why != nil {
			err = why
		}
		return d.failed(ctx, err)
	}
}

// permission returns what the called method states; empty if it states nothing.
func permission(spec connect.Spec) string {
	known, called := permissions.Load(spec.Procedure)
	if p, ok := known.(string); called && ok {
		return p
	}
	method, ok := spec.Schema.(protoreflect.MethodDescriptor)
	if !ok {
		return ""
	}
	p, _ := proto.GetExtension(method.Options(), apiv1.E_Permission).(string)
	permissions.Store(spec.Procedure, p)
	return p
}

// permissions are those of the methods that have been called, by procedure: to
// find one out costs as much as to judge it.
var permissions sync.Map
