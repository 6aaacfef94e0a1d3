package startup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/generate"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/scratch"
	"github.com/sop-host/sop/sdk"
)

// GenerateRequest says what to generate by hand.
type GenerateRequest struct {
	ConfigPath string
	PluginsDir string
	Plugin     string // such as "sandbox.scaffold"
	Profile    string // "" is the plugin's, or the default one
	Level      string // "" is the profile's
	Workspace  string
	Task       []byte
	Keep       bool // what the run has left, in a directory of its own
	Version    string
	Report     func(GenerateEvent) // nil is fine
}

// GenerateEvent is what a generator reports while it runs.
type GenerateEvent = generate.Event

// GenerateOutcome is a run of a generator as it is told of.
type GenerateOutcome struct {
	*generate.Run
	Diff string `json:"diff"`
	Kept string `json:"kept,omitempty"`
}

// runGenerator does one run in this process, without a host: nothing is
// recorded, and the workspace is not touched.
func runGenerator(ctx context.Context, request GenerateRequest) (out *GenerateOutcome, err error) {
	cfg, diags := config.Load(request.ConfigPath, config.Options{PluginsDir: request.PluginsDir})
	if cfg == nil || diags.HasErrors() {
		return nil, diags
	}
	spec, profile, err := generatorSpec(cfg, request)
	if err != nil {
		return nil, err
	}
	run, err := scratch.New("generate")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	spec.StateDir = run.Join("state") // a host may be using the other
	pool, err := plugin.New(plugin.Options{
		RunDir: run.Join("run"), Logger: hclog.NewNullLogger(), HostVersion: request.Version, SandboxLauncher: sandboxLauncher,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := pool.Start(ctx, []*plugin.Spec{spec}); err != nil {
		return nil, err
	}
	runner, err := sandboxRunner()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	if runner.Cgroups, err = cgroup.Open(cgroup.Options{Owner: fmt.Sprintf("sop sandbox generate %d", os.Getpid())}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runner.Cgroups.Close()) }()
	generated, err := (&generate.Runner{Plugins: pool, Sandbox: runner}).Run(ctx, generate.Request{
		RunID: rand.Text(), Plugin: request.Plugin, Workspace: request.Workspace, Profile: profile, Task: request.Task,
	}, request.Report)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, generated.Close()) }()
	out = &GenerateOutcome{Run: generated}
	if out.Diff, err = generated.Diff(maxShownDiff); err != nil {
		return nil, fmt.Errorf("compare the changes: %w", err)
	}
	if request.Keep && generated.Changes != nil {
		if out.Kept, err = os.MkdirTemp("", "sop-run-"); err == nil {
			err = generated.Export(out.Kept)
		}
	}
	return out, err
}

// generatorSpec is the plugin as its block and the lock file have it, and the
// profile that its runs are under.
func generatorSpec(cfg *config.Config, request GenerateRequest) (*plugin.Spec, sandbox.Profile, error) {
	p := cfg.Plugin(request.Plugin)
	if p == nil {
		return nil, sandbox.Profile{}, sdk.Errorf(codes.NotFound, "PLUGIN_UNKNOWN", "the configuration has no plugin %q", request.Plugin).
			WithRemedy("name one of its blocks plugin \"sandbox\" \"NAME\" as sandbox.NAME")
	}
	name := request.Profile
	if name == "" {
		name = p.SandboxProfile
	}
	profile, err := sandboxProfile(SandboxRequest{ConfigPath: request.ConfigPath, PluginsDir: request.PluginsDir, Profile: name, Level: request.Level})
	if err != nil {
		return nil, profile, err
	}
	lock, err := plugin.ReadLock(lockPath(cfg))
	if err != nil {
		return nil, profile, err
	}
	spec, diags := newSpec(cfg, lock, p)
	if diags.HasErrors() {
		return nil, profile, diags
	}
	return spec, profile, nil
}
