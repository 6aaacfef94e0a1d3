package plugin

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	gorunner "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// starter makes generations.
type starter struct {
	verifier *verifier
	launcher *process.Launcher
	cgroups  *cgroup.Tree
	logger   hclog.Logger
	runDir   *runDir
	version  string // of the host
	serve    Callbacks
	admit    func(ctx context.Context, id string, generation int, conn grpc.ClientConnInterface) error
	box      func() (string, error) // finds sop-sandbox
}

// start brings a generation up to ready, or leaves nothing behind. phase is
// called as each phase begins. only stops after the named phase where it is not
// empty (to describe a plugin without configuring it). view is where it is
// started; nil is the host itself.
func (s *starter) start(ctx context.Context, spec *Spec, number int, phase func(Phase), only Phase, view *viewed) (g *generation, err error) {
	ctx, cancel := context.WithTimeout(ctx, spec.StartTimeout)
	defer cancel()
	phase(PhaseVerifying)
	bin, err := s.verifier.open(spec)
	if err != nil {
		return nil, err
	}
	defer bin.close()

	g = &generation{
		number: number, spec: spec, realDir: s.runDir.real, logger: s.logger.Named(spec.ID()),
		drained: make(chan struct{}), stopped: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = g.explain(ctx, err)
			g.stop(0)
			g = nil
		}
	}()
	phase(PhaseStarting)
	if err := s.launch(ctx, g, bin, phase, view); err != nil {
		return g, err
	}
	// The program that runs is the one that was hashed: what was opened was
	// executed, and nobody wrote to it in between.
	if err := bin.unchanged(); err != nil {
		return g, err
	}
	phase(PhaseDescribing)
	if err := g.describe(ctx, s.version); err != nil || only == PhaseDescribing {
		return g, err
	}
	phase(PhaseConfiguring)
	if err := g.configure(ctx, s.serve); err != nil {
		return g, err
	}
	phase(PhaseHealth)
	if err := g.awaitHealth(ctx); err != nil {
		return g, err
	}
	if s.admit != nil {
		phase(PhaseAdmitting)
		if err := s.admit(ctx, spec.ID(), number, g.conn); err != nil {
			return g, err
		}
	}
	g.readyAt = time.Now()
	phase(PhaseReady)
	return g, nil
}

// launch starts the process and connects to it.
func (s *starter) launch(ctx context.Context, g *generation, bin *binary, phase func(Phase), view *viewed) error {
	dir, err := s.runDir.path()
	if err != nil {
		return err
	}
	cert, err := sdk.NewIdentity()
	if err != nil {
		return err
	}
	var confined confinement // a view has a group of its own
	if view == nil {
		if confined, err = s.confine(g.spec, g.number); err != nil {
			return err
		}
	}
	sink := newLogSink(g.logger)
	g.runner = newRunner(s.launcher, g.spec, bin, sink, confined)
	g.runner.sandboxLauncher, g.runner.view = s.box, view
	g.tls = &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, ServerName: "localhost",
	}
	config := &goplugin.ClientConfig{
		HandshakeConfig:  sdk.Handshake,
		Plugins:          goplugin.PluginSet{g.spec.Kind: connPlugin{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		TLSConfig:        g.tls,
		StartTimeout:     g.spec.StartTimeout + killWait, // ours ends first, and says why
		SkipHostEnv:      true,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		Logger:           hclog.NewNullLogger(), // it repeats what the runner says
		SyncStdout:       sink.writer(),
		SyncStderr:       sink.writer(),
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply), grpc.MaxCallSendMsgSize(maxRequest)),
			grpc.WithMaxHeaderListSize(maxHeaders),
			grpc.WithStaticStreamWindowSize(streamWindow),
			grpc.WithStaticConnWindowSize(connWindow),
		},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (gorunner.Runner, error) {
			env := append(slices.Clip(cmd.Env), clientCertificate(cert.Certificate[0]))
			if view == nil {
				env = environment(g.spec, env)
			} else {
				view.callback = filepath.Join(s.runDir.real, filepath.Base(dir))
			}
			g.runner.prepare(env, dir)
			return g.runner, nil
		},
	}
	g.client = goplugin.NewClient(config)
	return g.connect(ctx, phase)
}

// environment is all that the plugin sees: what its configuration names, PATH,
// a locale, its own temporary directory, and go-plugin's variables.
func environment(spec *Spec, handshake []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TMPDIR=."}
	env = append(env, spec.environment()...)
	for _, kv := range handshake {
		if strings.HasPrefix(kv, goplugin.EnvUnixSocketDir+"=") {
			kv = goplugin.EnvUnixSocketDir + "=." // see runner.PluginToHost
		}
		env = append(env, kv)
	}
	return env
}
