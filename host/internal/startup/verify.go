package startup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/verify"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// newVerifier returns a verifier that asks the pool's detectors. A host has one,
// since it remembers what the tests of a tree do without a patch.
func newVerifier(pool *plugin.Pool, runner *sandbox.Runner) *verify.Verifier {
	return &verify.Verifier{Sandbox: runner, Detectors: &dedicatedDetectors{pool, runner}}
}

// dedicatedDetectors starts detectors of the pool in views.
type dedicatedDetectors struct {
	pool   *plugin.Pool
	runner *sandbox.Runner
}

// Open implements [verify.Detectors].
func (d *dedicatedDetectors) Open(ctx context.Context, id string, spec sandbox.Spec) (verify.Detector, error) {
	started, err := d.pool.Dedicated(ctx, id, plugin.View{Runner: d.runner, Spec: spec})
	if err != nil {
		return nil, err
	}
	return &dedicatedDetector{started, detector.Kind.NewClient(started)}, nil
}

type dedicatedDetector struct {
	*plugin.Dedicated
	client pluginv1.DetectorClient
}

// Scan implements [verify.Detector].
func (d *dedicatedDetector) Scan(ctx context.Context) (verify.ScanStream, error) {
	return d.client.Scan(ctx)
}

// Root implements [verify.Detector].
func (d *dedicatedDetector) Root() string { return d.Places().Workspace }

// verifySpec is how patches of a workspace are verified. only names the steps;
// empty is all.
func verifySpec(cfg *config.Config, name string, only []string) (verify.Spec, error) {
	w := cfg.Workspace(name)
	if w == nil {
		return verify.Spec{}, sdk.Errorf(codes.NotFound, "WORKSPACE_NOT_FOUND", "there is no workspace %q", name)
	}
	spec := verify.Spec{Workspace: w.Path, Protect: w.Protect, Profile: verifyProfile(cfg)}
	var err error
	if spec.Steps, err = verifySteps(cfg, w); err != nil {
		return spec, err
	}
	if len(only) == 0 {
		return spec, nil
	}
	known := make([]string, len(spec.Steps))
	for i := range spec.Steps {
		known[i] = spec.Steps[i].Name
	}
	for _, step := range only {
		if step != verify.StepGap && !slices.Contains(known, step) {
			return spec, sdk.Errorf(codes.FailedPrecondition, "VERIFY_STEP", "the workspace %s has no verify step %q", name, step).
				WithRemedy("add a verify %q block to the workspace; it has %s", step, strings.Join(known, ", "))
		}
	}
	spec.Steps = slices.DeleteFunc(spec.Steps, func(s verify.Step) bool { return !slices.Contains(only, s.Name) })
	return spec, nil
}

// verifySteps are those of the configuration, or those that suit the tree.
func verifySteps(cfg *config.Config, w *config.Workspace) ([]verify.Step, error) {
	if len(w.Verify) == 0 {
		return verify.DefaultSteps(w.Path)
	}
	var out []verify.Step
	for _, s := range w.Verify {
		step := verify.Step{Name: s.Name, Runner: s.Runner, Command: s.Command, Packages: s.Packages, Dir: s.Dir, Timeout: s.Timeout, NoCoverage: s.NoCoverage}
		for name, value := range s.Env {
			step.Env = append(step.Env, name+"="+value)
		}
		slices.Sort(step.Env)
		if s.SandboxProfile != "" {
			p := sandbox.DefaultProfile
			if c := cfg.SandboxProfile(s.SandboxProfile); c != nil {
				p = configured(c)
			}
			step.Profile = &p
		}
		out = append(out, step)
	}
	return out, nil
}

// VerifyProfile is the name of the profile that verification has where a step
// names none.
const VerifyProfile = "verify"

// verifyProfile is the configured one, or the default with the caches that the
// default steps are slow, or fail, without.
func verifyProfile(cfg *config.Config) sandbox.Profile {
	if c := cfg.SandboxProfile(VerifyProfile); c != nil {
		return configured(c)
	}
	p := sandbox.DefaultProfile
	p.Name = VerifyProfile
	p.Limits.DiskBytes = verifyDisk
	p.Caches = configuredCaches([]config.SandboxCache{{Name: "go-build"}, {Name: "go-mod"}})
	return p
}

const verifyDisk = 4 << 30

// gapToVerify is what a patch for a gap has to close.
func gapToVerify(cfg *config.Config, dataDir string, g *gap.Gap) (verify.Gap, error) {
	w := cfg.Workspace(g.Workspace)
	if w == nil {
		return verify.Gap{}, fmt.Errorf("there is no workspace %q", g.Workspace)
	}
	return verify.Gap{
		Detector: detector.Kind.Name + "." + g.Detector, Workspace: g.Workspace, Rule: g.Rule, Path: g.Path, Symbol: g.Symbol,
		Message: g.Message, Severity: pluginv1.Severity(g.Severity), Walk: walkOptions(w, dataDir), MaxFileSize: w.Scan.MaxFileSize,
	}, nil
}
