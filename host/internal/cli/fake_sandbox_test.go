package cli

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/generate"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/host/internal/startup"
	"github.com/sop-host/sop/sdk"
)

// sandbox is an engine that runs nothing and has always run the same.
func (e engineScenario) sandbox() startup.SandboxEngine {
	return startup.SandboxEngine{Run: e.sandboxRun, Probe: e.sandboxProbe, Profiles: e.sandboxProfiles, Generate: e.sandboxGenerate}
}

var testRefusal = &sandbox.Refusal{Stage: "proc", Errno: 1, Detail: "operation not permitted"}

func (e engineScenario) sandboxRun(_ context.Context, request startup.SandboxRequest) (*startup.SandboxOutcome, error) {
	if err := e.err(); err != nil {
		return nil, err
	}
	out := &startup.SandboxOutcome{ExitCode: 125, Changes: []sandbox.Change{}}
	if e == "refused" {
		out.Refusal = testRefusal
		return out, nil
	}
	out.Result = sandbox.Result{
		Status: sandbox.Exited, Level: sandbox.LevelStrict, LandlockABI: 7,
		Stdout: sandbox.Output{Text: strings.Join(request.Argv, " ") + " " + string(request.Stdin) + "\x1b[31m", Bytes: 9},
		Usage:  sandbox.Usage{User: 1500, System: 500, MemoryPeak: 3 << 20},
		Denied: []launch.Denied{{Process: "evil\x1b", Syscall: "mount", Count: 2}},
		Phases: map[string]time.Duration{"done": 1500 * time.Millisecond},
	}
	out.ExitCode = 0
	out.Changes = []sandbox.Change{{Path: ".github/w.yml", Op: sandbox.OpAdd, Flag: "continuous integration"}}
	out.Diff = "+new\n"
	switch e {
	case "rejected":
		out.Rejected = []sandbox.Rejection{{Path: "a\nb", Why: "its name has a control or an invisible character"}}
	case "slow":
		out.Status, out.Limits, out.ExitCode = sandbox.Limited, []string{sandbox.LimitWall}, 124
	case "crashed":
		out.ExitCode = 3
	}
	return out, nil
}

// sandboxGenerate tells of a run as the scenario says it ended.
func (e engineScenario) sandboxGenerate(_ context.Context, request startup.GenerateRequest) (*startup.GenerateOutcome, error) {
	if err := e.err(); err != nil {
		return nil, err
	}
	if request.Report != nil {
		request.Report(startup.GenerateEvent{Phase: "editing", Message: "a.txt\x1b[31m"})
		request.Report(startup.GenerateEvent{Stream: "stdout", Data: []byte("working\n")})
	}
	run := &generate.Run{
		ID: "r", Plugin: request.Plugin, Outcome: generate.Changed, Explanation: "It is " + string(request.Task),
		Changes:  &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: ".github/w.yml", Op: sandbox.OpAdd, Flag: "continuous integration"}}},
		Evidence: sandbox.Result{Status: sandbox.Exited, Level: sandbox.LevelStrict, LandlockABI: 7, Phases: map[string]time.Duration{"done": 1500 * time.Millisecond}},
	}
	out := &startup.GenerateOutcome{Run: run, Diff: "+new\n"}
	switch e {
	case "refused":
		run.Outcome, run.Code, run.Changes, out.Diff = generate.Refused, 125, nil, ""
		run.Evidence, run.Err = sandbox.Result{Refusal: testRefusal}, sdk.Errorf(codes.FailedPrecondition, "PLUGIN_SANDBOX_REFUSED", "it was not started").WithRemedy("probe")
	case "rejected":
		run.Outcome = generate.Rejected
		run.Changes.Rejected = []sandbox.Rejection{{Path: "go.mod", Why: "the task protects it"}}
	case "slow":
		run.Outcome, run.Code = generate.TimedOut, 124
	case "crashed":
		run.Outcome, run.Code = generate.Crashed, 3
	case "idle":
		run.Outcome, run.Code = generate.NothingToDo, 10
	}
	return out, nil
}

func (e engineScenario) sandboxProbe(context.Context, string, string) (*startup.SandboxProbe, error) {
	out := &startup.SandboxProbe{
		Levels:   []sandbox.LevelProbe{{Level: sandbox.LevelStrict, Works: true}, {Level: sandbox.LevelNSNoProc, Works: true}},
		Profiles: []startup.ProbedProfile{{Name: "default", Wants: "strict", Gets: "strict"}},
	}
	if e == "refused" {
		out.Levels[0] = sandbox.LevelProbe{Level: sandbox.LevelStrict, Refusal: testRefusal}
		out.Profiles[0] = startup.ProbedProfile{Name: "default", Wants: "strict", Why: testRefusal.String()}
	}
	return out, nil
}

func (engineScenario) sandboxProfiles(string, string) ([]sandbox.Profile, error) {
	return []sandbox.Profile{sandbox.DefaultProfile}, nil
}
