package startup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/sdk"
)

// SandboxEngine is what the sandbox commands do in their own process.
type SandboxEngine struct {
	Run      func(ctx context.Context, request SandboxRequest) (*SandboxOutcome, error)
	Probe    func(ctx context.Context, configPath, pluginsDir string) (*SandboxProbe, error)
	Profiles func(configPath, pluginsDir string) ([]sandbox.Profile, error)
	Generate func(ctx context.Context, request GenerateRequest) (*GenerateOutcome, error)
}

// Sandbox returns the engine of this machine.
func Sandbox() SandboxEngine {
	return SandboxEngine{Run: runSandbox, Probe: probeSandbox, Profiles: sandboxProfiles, Generate: runGenerator}
}

// SandboxRequest says what to run.
type SandboxRequest struct {
	ConfigPath string // "" for none: there is the default profile then
	PluginsDir string
	Profile    string // "" is the default one
	Level      string // "" is the profile's
	Workspace  string
	Argv       []string
	Env        []string
	Stdin      []byte
	Keep       bool // what the run has left, in a directory of its own
}

// SandboxOutcome is a run as it is told of.
type SandboxOutcome struct {
	sandbox.Result
	ExitCode int                 `json:"exit_code"` // the command's or the host's
	Changes  []sandbox.Change    `json:"changes"`
	Rejected []sandbox.Rejection `json:"rejected,omitempty"`
	Diff     string              `json:"diff"`
	Kept     string              `json:"kept,omitempty"`
}

// maxShownDiff bounds a diff that is shown, in bytes.
const maxShownDiff = 1 << 20

func runSandbox(ctx context.Context, request SandboxRequest) (out *SandboxOutcome, err error) {
	profile, err := sandboxProfile(request)
	if err != nil {
		return nil, err
	}
	runner, err := sandboxRunner()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	// A tree of this process: there may be others, and a host.
	if runner.Cgroups, err = cgroup.Open(cgroup.Options{Owner: fmt.Sprintf("sop sandbox run %d", os.Getpid())}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runner.Cgroups.Close()) }()
	run, err := runner.Run(ctx, sandbox.Spec{
		Profile: profile, Workspace: request.Workspace, Argv: request.Argv, Env: request.Env, Stdin: request.Stdin,
	})
	if err != nil {
		return nil, sdk.Errorf(codes.InvalidArgument, "SANDBOX_RUN", "the run was not begun: %w", err)
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	out = &SandboxOutcome{Result: run.Result, ExitCode: run.ExitCode(), Changes: []sandbox.Change{}}
	if run.Status == sandbox.Refused || run.Status == sandbox.Lost {
		return out, nil
	}
	set, err := run.Changes(sandbox.DefaultChangeLimits)
	if err != nil {
		return nil, fmt.Errorf("work out the changes: %w", err)
	}
	out.Changes, out.Rejected = append(out.Changes, set.Changes...), set.Rejected
	if out.Diff, err = run.Diff(set, maxShownDiff); err != nil {
		return nil, fmt.Errorf("compare the changes: %w", err)
	}
	if request.Keep {
		if out.Kept, err = os.MkdirTemp("", "sop-run-"); err == nil {
			err = run.Export(out.Kept, set)
		}
	}
	return out, err
}

func sandboxRunner() (*sandbox.Runner, error) {
	launcher, err := sandboxLauncher()
	if err != nil {
		return nil, err
	}
	return &sandbox.Runner{Launcher: launcher}, nil
}

// sandboxLauncher finds the launcher beside this program.
func sandboxLauncher() (string, error) {
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return "", err
	}
	launcher := filepath.Join(filepath.Dir(program), sandbox.LauncherName)
	if err := sandbox.CheckLauncher(launcher); err != nil {
		return "", sdk.Errorf(codes.FailedPrecondition, "SANDBOX_LAUNCHER", "the launcher cannot be used: %w", err).
			WithRemedy("install %s beside %s, in a directory that only root or this user can write to", sandbox.LauncherName, program)
	}
	return launcher, nil
}

func sandboxProfile(request SandboxRequest) (sandbox.Profile, error) {
	profiles, err := sandboxProfiles(request.ConfigPath, request.PluginsDir)
	if err != nil {
		return sandbox.Profile{}, err
	}
	name := request.Profile
	if name == "" {
		name = sandbox.DefaultProfile.Name
	}
	for _, p := range profiles {
		if p.Name != name {
			continue
		}
		if request.Level != "" {
			p.Level = sandbox.Level(request.Level)
		}
		return p, nil
	}
	return sandbox.Profile{}, sdk.Errorf(codes.NotFound, "SANDBOX_PROFILE", "there is no sandbox profile %q", name).
		WithRemedy("`sop sandbox profiles` lists them; add a sandbox_profile block to the configuration")
}

// sandboxProfiles are those of the configuration, and the default one, which a
// configuration may replace.
func sandboxProfiles(configPath, pluginsDir string) ([]sandbox.Profile, error) {
	if configPath == "" {
		return []sandbox.Profile{sandbox.DefaultProfile}, nil
	}
	cfg, diags := config.Load(configPath, config.Options{PluginsDir: pluginsDir})
	if cfg == nil {
		return nil, diags
	}
	return profilesOf(cfg), nil
}

// profilesOf are those of a configuration, and the default one.
func profilesOf(cfg *config.Config) []sandbox.Profile {
	out := []sandbox.Profile{sandbox.DefaultProfile}
	for i := range cfg.SandboxProfiles {
		p := configured(&cfg.SandboxProfiles[i])
		if p.Name == sandbox.DefaultProfile.Name {
			out[0] = p
			continue
		}
		out = append(out, p)
	}
	return out
}

func configured(p *config.SandboxProfile) sandbox.Profile {
	return sandbox.Profile{
		Name: p.Name, Level: sandbox.Level(p.Level), ReadOnly: p.ReadOnly, Caches: configuredCaches(p.Caches), Network: configuredNetwork(&p.Network),
		Limits: sandbox.Limits{
			Wall: p.Limits.Wall, CPU: p.Limits.CPU, MemoryBytes: p.Limits.Memory, OutputBytes: p.Limits.Output,
			DiskBytes: p.Limits.Disk, Pids: int64(p.Limits.Pids), OpenFiles: int64(p.Limits.OpenFiles), Inodes: int64(p.Limits.Inodes),
		}.OrDefault(),
	}
}

// SandboxProbe is what this machine can do, and what that makes of each
// profile.
type SandboxProbe struct {
	Levels   []sandbox.LevelProbe `json:"levels"`
	Profiles []ProbedProfile      `json:"profiles"`
}

// ProbedProfile says which level a profile gets.
type ProbedProfile struct {
	Name  string `json:"name"`
	Wants string `json:"wants"`
	Gets  string `json:"gets"`          // "" for none: its runs are refused
	Why   string `json:"why,omitempty"` // it gets no more
}

func probeSandbox(ctx context.Context, configPath, pluginsDir string) (out *SandboxProbe, err error) {
	profiles, err := sandboxProfiles(configPath, pluginsDir)
	if err != nil {
		return nil, err
	}
	runner, err := sandboxRunner()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	out = new(SandboxProbe)
	if out.Levels, err = runner.Probe(ctx); err != nil {
		return nil, err
	}
	for _, p := range profiles {
		out.Profiles = append(out.Profiles, probed(p, out.Levels))
	}
	return out, nil
}

// probed says what a profile gets: the level that it names, or nothing.
func probed(p sandbox.Profile, levels []sandbox.LevelProbe) ProbedProfile {
	out := ProbedProfile{Name: p.Name, Wants: string(p.Level)}
	for _, l := range levels {
		switch {
		case l.Level != p.Level:
		case l.Works:
			out.Gets = string(l.Level)
		default:
			out.Why = l.Refusal.String()
		}
	}
	return out
}

// componentSandbox says how c is isolated; nil for not at all.
func componentSandbox(cfg *config.Config, c *config.Component) (*component.Sandbox, config.Diagnostics) {
	if c.SandboxProfile == "" {
		return nil, nil
	}
	plan, profile, err := isolationPlan(cfg, c.SandboxProfile)
	if err == nil && plan != nil {
		err = component.CheckDir(c.Dir)
	}
	if err != nil {
		return nil, config.Diagnostics{{
			Severity: config.SeverityError, Summary: fmt.Sprintf("Component %s cannot run under sandbox_profile %q", c.Name, profile),
			Detail: capital(err.Error()) + ".", Range: c.Source,
		}}
	}
	if plan == nil {
		return nil, nil
	}
	enforce := true
	if own := cfg.SandboxProfile(c.SandboxProfile); own != nil {
		enforce = own.Enforce
	}
	return &component.Sandbox{Profile: profile, Plan: *plan, Enforce: enforce}, nil
}

// isolationPlan is how a plugin or a component is isolated under a profile, whose
// name it returns; nil for not at all.
func isolationPlan(cfg *config.Config, name string) (*launch.Plan, string, error) {
	profile := sandbox.DefaultProfile
	if own := cfg.SandboxProfile(name); own != nil {
		profile = configured(own)
	}
	var workspaces []string
	for i := range cfg.Workspaces {
		workspaces = append(workspaces, cfg.Workspaces[i].Path)
	}
	plan, err := sandbox.PluginPlan(profile, workspaces)
	if own := cfg.SandboxProfile(name); own != nil && plan != nil && own.Network.Mode != "" {
		plan.Network = own.Network.Mode
		if plan.Network == launch.NetworkFull { // what names are looked up by
			plan.Mounts = append(plan.Mounts, launch.Mount{Tree: launch.Tree{Path: resolvConf}, Target: resolvConf, Optional: true})
		}
	}
	return plan, profile.Name, err
}

const resolvConf = "/etc/resolv.conf"
