//go:build !front

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/doctor"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk/scaffold"
)

// Engine is the work that commands do in their own process. See the functions
// of the same name in startup.
type Engine struct {
	Run      func(ctx context.Context, opt startup.Options) error
	ScanOnce func(ctx context.Context, opt startup.ScanOptions) (*startup.ScanOutcome, error)
	Lock     func(ctx context.Context, configPath, pluginsDir, version string, check bool) ([]startup.LockChange, error)
	Validate func(configPath, pluginsDir string) config.Diagnostics
	Plan     func(ctx context.Context, configPath, pluginsDir string) ([]*apiv1.PlannedChange, config.Diagnostics, error)

	Scaffolds func(dir string) (*scaffold.Set, error)
	Sandbox   startup.SandboxEngine

	EmergencyStop func(ctx context.Context, s startup.Stopping) (killed int, err error)
	Resume        func(s startup.Stopping) error

	VerifyAudit func(ctx context.Context, v startup.AuditVerification) (*apiv1.VerifyResponse, error)

	Doctor   func(ctx context.Context, e startup.Examination) *doctor.Report
	SelfTest func(ctx context.Context, opt startup.SelfTesting) *startup.SelfTestReport

	Policies        func(s startup.PolicySource) (*apiv1.ListPoliciesResponse, config.Diagnostics)
	ExplainPolicy   func(s startup.PolicySource, req *apiv1.ExplainRequest) (*apiv1.ExplainResponse, config.Diagnostics, error)
	TestPolicies    func(s startup.PolicySource, files []string) ([]startup.PolicyTest, config.Diagnostics)
	DefaultPolicies func() map[string]string
	PolicySchema    func() string
	PolicyActions   func() []string
}

// actionNames are for the shell to complete.
func (e Engine) actionNames() []string {
	if e.PolicyActions == nil {
		return nil
	}
	return e.PolicyActions()
}

// own is what the commands of this process work with.
type own struct {
	engine  Engine
	version version
}

func newOwn([]string) own { return own{engine: hostEngine(), version: buildVersion()} }

// prepare has nothing to do: all is within this program.
func (*app) prepare() {}

// hiddenCommands are those that the library of commands does not add itself.
func (a *app) hiddenCommands() []*cobra.Command { return nil }

func hostEngine() Engine {
	return Engine{
		Run:      startup.Run,
		ScanOnce: startup.ScanOnce,
		Lock:     startup.Lock,
		Validate: startup.Validate,
		Plan:     startup.Plan,

		Scaffolds: startup.Scaffolds,
		Sandbox:   startup.Sandbox(),

		EmergencyStop: startup.EmergencyStop,
		Resume:        startup.Resume,

		VerifyAudit: startup.VerifyAudit,

		Doctor:   startup.Doctor,
		SelfTest: startup.SelfTest,

		Policies:        startup.Policies,
		ExplainPolicy:   startup.ExplainPolicy,
		TestPolicies:    startup.TestPolicies,
		DefaultPolicies: startup.DefaultPolicies,
		PolicySchema:    startup.PolicySchema,
		PolicyActions:   startup.PolicyActions,
	}
}
