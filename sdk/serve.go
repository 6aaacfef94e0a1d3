package sdk

import (
	"context"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/heap"
	"github.com/sop-host/sop/sdk/trace"
)

// Plugin is what an author fills in.
type Plugin[T any] struct {
	// Name of the implementation, such as "docs".
	Name string
	// Version is semantic.
	Version string
	// Summary is one sentence for people.
	Summary string
	// Capabilities are optional abilities that the kind's service names.
	Capabilities []string
	// Schema of the `config { }` block.
	Schema Schema
	// Configure takes the configuration; nil accepts and ignores it. An error
	// keeps the plugin out of service.
	Configure ConfigureFunc
	// Impl does the work. It must be safe for concurrent use.
	Impl T
	// Logger writes to standard error in the form that the host reads; nil
	// makes one named as the plugin.
	Logger hclog.Logger
}

// Serve serves p as a plugin of the kind until the host ends it. It returns
// after that, or exits with status 1 and a sentence on standard error when the
// program was not started by a host. Call it from main and do nothing after it.
//
// Standard output belongs to the handshake: log to standard error, which is the
// process's own again when Configure is called. The garbage
// collector keeps still until [heap.Plugin] bytes are in use, unless the
// environment has GOGC.
func Serve[T, C any](kind Kind[T, C], p Plugin[T]) {
	schema, err := p.Schema.proto()
	if err != nil {
		fmt.Fprintf(os.Stderr, "plugin %s: %v\n", p.Name, err)
		os.Exit(1)
	}
	logger := p.Logger
	if logger == nil {
		logger = hclog.New(&hclog.LoggerOptions{Name: p.Name, Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	}
	tlsProvider, err := serverIdentity()
	if err != nil {
		fmt.Fprintf(os.Stderr, "plugin %s: %v\n", p.Name, err)
		os.Exit(1)
	}
	defer heap.Floor(heap.Plugin)()
	late := &overdue{limit: kind.CancelWithin}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins: goplugin.PluginSet{kind.Name: &adapter[T, C]{
			kind: kind,
			base: &pluginServer{
				describe: &pluginv1.DescribeResponse{
					Name: p.Name, Version: p.Version, Kind: kind.Name, Summary: p.Summary,
					ContractVersions: []uint32{ContractVersion}, Capabilities: p.Capabilities,
					ConfigSchema: schema,
				},
				configure: p.Configure, stderr: os.Stderr,
			},
			impl: p.Impl,
		}},
		TLSProvider: tlsProvider,
		Logger:      logger,
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(math.MaxInt32),
				grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow),
				grpc.NumStreamWorkers(callWorkers),
				grpc.ChainUnaryInterceptor(late.unary, trace.Unary), grpc.ChainStreamInterceptor(late.stream, trace.Stream))...)
		},
	})
}

// maxMessage bounds a message that a plugin accepts, in bytes.
const maxMessage = 64 << 20

// Bytes that the host sends before the plugin has read them, by call and in all.
// They are fixed: gRPC would otherwise measure the bandwidth of a local socket,
// by a ping with every call.
const (
	streamWindow = 1 << 20
	connWindow   = 4 << 20
)

// callWorkers are kept for calls, so that one does not begin on a stack that has
// yet to grow. Calls beyond that many at once get goroutines of their own.
const callWorkers = 8

// adapter joins any kind to go-plugin on the plugin's side.
type adapter[T, C any] struct {
	goplugin.NetRPCUnsupportedPlugin
	kind Kind[T, C]
	base *pluginServer
	impl T
}

// GRPCServer implements [goplugin.GRPCPlugin].
func (a *adapter[T, C]) GRPCServer(broker *goplugin.GRPCBroker, s *grpc.Server) error {
	a.base.broker = broker
	pluginv1.RegisterPluginServer(s, a.base)
	a.kind.Register(s, a.impl)
	return nil
}

// GRPCClient implements [goplugin.GRPCPlugin]; a plugin makes no clients.
func (a *adapter[T, C]) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("kind %s: this side serves only", a.kind.Name)
}

// pluginServer serves the Plugin service.
type pluginServer struct {
	pluginv1.UnimplementedPluginServer
	describe  *pluginv1.DescribeResponse
	configure ConfigureFunc
	broker    *goplugin.GRPCBroker
	stderr    *os.File // the process's own; nil: os.Stderr is left alone

	mu         sync.Mutex
	configured bool
}

// Describe implements [pluginv1.PluginServer]. It is the first call: go-plugin has
// put a pipe in the place of [os.Stderr], whose content it sends over the
// connection, and of that the last is lost when the process ends.
func (s *pluginServer) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stderr != nil {
		os.Stderr, s.stderr = s.stderr, nil
	}
	return s.describe, nil
}

// Configure implements [pluginv1.PluginServer].
func (s *pluginServer) Configure(ctx context.Context, req *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.configured {
		return nil, Errorf(codes.FailedPrecondition, "ALREADY_CONFIGURED", "a generation is configured once").
			WithRemedy("start a new generation for a new configuration")
	}
	if s.configure != nil {
		host, err := dialHost(s.broker, req.GetHostBrokerId())
		if err != nil {
			return nil, err
		}
		if err := s.configure(ctx, &Config{json: req.GetConfigJson(), StateDir: req.GetStateDir(), Host: host}); err != nil {
			return &pluginv1.ConfigureResponse{Diagnostics: configDiagnostics(err)}, nil
		}
	}
	s.configured = true
	return &pluginv1.ConfigureResponse{}, nil
}
