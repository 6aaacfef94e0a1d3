package generate

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	kind "github.com/sop-host/sop/sdk/sandbox"
)

// Plugins starts generators; *plugin.Pool does.
type Plugins interface {
	Dedicated(ctx context.Context, id string, view plugin.View) (*plugin.Dedicated, error)
}

// A Runner does runs. It may be used by several goroutines.
type Runner struct {
	Plugins Plugins
	Sandbox *sandbox.Runner
}

// A Request says what to run.
type Request struct {
	RunID     string
	Plugin    string // the id of a sandbox plugin, such as "sandbox.scaffold"
	Workspace string // a directory
	Profile   sandbox.Profile
	// Task conforms to docs/generator-task.schema.json.
	Task []byte
	// Token is the secret that the plugin may call the host with; "" for none.
	Token string
	// Patch is in the view before the generator begins; nil for nothing.
	Patch *sandbox.Patch
}

// An Event is something that a generator has reported while it ran.
type Event struct {
	At      time.Time `json:"at"`
	Phase   string    `json:"phase,omitempty"`
	Message string    `json:"message,omitempty"`
	// Stream and Data are a piece of what the generator printed: "stdout" or
	// "stderr".
	Stream string `json:"-"`
	Data   []byte `json:"-"`
}

const (
	maxEvents      = 200      // that are kept
	maxText        = 4 << 10  // bytes of a phase and a message
	maxExplanation = 64 << 10 // bytes
	maxProperties  = 64
)

// Run does one run and returns when nothing of it is alive. When ctx is done the
// run is ended. report is called for each event, in order, from one goroutine;
// nil is fine. An error says that the request made no sense or that the host
// could not do its part; whatever becomes of the generator is an Outcome.
func (r *Runner) Run(ctx context.Context, req Request, report func(Event)) (*Run, error) {
	t, err := readTask(req.Task)
	if err != nil {
		return nil, err
	}
	if name, _, _ := strings.Cut(req.Plugin, "."); name != kind.Kind.Name {
		return nil, sdk.Errorf(codes.InvalidArgument, "NOT_A_SANDBOX", "%q is no sandbox plugin", req.Plugin).
			WithRemedy("name one that `sop plugin list` shows with the kind sandbox")
	}
	req.Profile.Limits = req.Profile.Limits.OrDefault()
	req.Profile.Limits.Wall = t.wall(req.Profile.Limits.Wall)
	a := &attempt{
		runner: r, req: &req, task: t, report: report,
		run: &Run{ID: req.RunID, TaskID: t.ID, Plugin: req.Plugin, Started: time.Now().UTC()},
	}
	limit := req.Profile.Limits.OutputBytes
	a.stdout, a.stderr = keep{limit: limit}, keep{limit: limit}
	if err := a.do(ctx); err != nil {
		return nil, errors.Join(err, a.run.Close())
	}
	return a.run, nil
}

// An attempt is one call of Run.
type attempt struct {
	runner *Runner
	req    *Request
	task   *task
	report func(Event)
	run    *Run

	stdout, stderr keep
	result         *pluginv1.GenerateResult
	failure        error // of the call
	tooMuch        bool
}

func (a *attempt) do(ctx context.Context) error {
	life, end := context.WithCancel(ctx)
	defer end()
	d, err := a.runner.Plugins.Dedicated(life, a.req.Plugin, plugin.View{
		Runner: a.runner.Sandbox, Spec: sandbox.Spec{Profile: a.req.Profile, Workspace: a.req.Workspace, Patch: a.req.Patch},
	})
	var failed *plugin.DedicatedError
	switch {
	case errors.As(err, &failed):
		a.run.Evidence, a.failure = failed.Result, err
		a.finish(ctx)
		return nil
	case err != nil:
		return err
	}
	a.generate(life, d)
	if a.failure != nil {
		end() // there is nothing to wait for
	}
	out, err := d.Close()
	if err != nil {
		return err
	}
	a.run.outcome, a.run.Evidence = out, out.Result
	if out.Status != sandbox.Refused && out.Status != sandbox.Lost {
		if a.run.Changes, err = out.Changes(sandbox.DefaultChangeLimits); err != nil {
			return err
		}
		a.task.judge(a.run.Changes)
	}
	a.finish(ctx)
	return nil
}

// generate makes the call and follows it to its end.
func (a *attempt) generate(ctx context.Context, d *plugin.Dedicated) {
	limits := a.req.Profile.Limits
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := kind.Kind.NewClient(d).Generate(ctx, &pluginv1.GenerateRequest{
		RunId: a.req.RunID, TaskId: a.task.ID, Token: a.req.Token, TaskJson: a.req.Task, WorkDir: d.Places().Workspace,
		Limits: &pluginv1.Limits{
			WallClock: durationpb.New(limits.Wall), Cpu: durationpb.New(limits.CPU), MemoryBytes: limits.MemoryBytes,
			DiskBytes: limits.DiskBytes, OutputBytes: limits.OutputBytes, Processes: int32(min(limits.Pids, 1<<30)),
		},
	})
	for err == nil {
		var m *pluginv1.GenerateResponse
		if m, err = stream.Recv(); err == nil && !a.heard(m) {
			a.tooMuch = true
			return
		}
	}
	if !errors.Is(err, io.EOF) {
		a.failure = err
	}
}

// heard takes over what the plugin reports. It says whether it may go on.
func (a *attempt) heard(m *pluginv1.GenerateResponse) bool {
	now := time.Now().UTC()
	switch e := m.GetEvent().(type) {
	case *pluginv1.GenerateResponse_Progress:
		event := Event{At: now, Phase: clean(e.Progress.GetPhase(), maxText), Message: clean(e.Progress.GetMessage(), maxText)}
		if len(a.run.Events) == maxEvents {
			a.run.Events = slices.Delete(a.run.Events, 0, 1)
		}
		a.run.Events = append(a.run.Events, event)
		a.tell(event)
	case *pluginv1.GenerateResponse_Output:
		stream, kept := "stdout", &a.stdout
		if e.Output.GetStream() == pluginv1.OutputChunk_STREAM_STDERR {
			stream, kept = "stderr", &a.stderr
		}
		if !kept.add(e.Output.GetData()) {
			return false
		}
		a.tell(Event{At: now, Stream: stream, Data: e.Output.GetData()})
	case *pluginv1.GenerateResponse_Result:
		a.result = e.Result
	}
	return true
}

func (a *attempt) tell(e Event) {
	if a.report != nil {
		a.report(e)
	}
}

// finish decides what came of it, from the strongest evidence to the weakest:
// what the sandbox saw, how the call ended, what the plugin claims.
func (a *attempt) finish(ctx context.Context) {
	r := a.run
	r.Ended = time.Now().UTC()
	r.Output = Output{Stdout: a.stdout.output(), Stderr: a.stderr.output()}
	if a.failure != nil {
		r.Err = sdk.FromError(a.failure)
	}
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		r.Code, r.Outcome = sandbox.ExitTimeout, TimedOut
	case ctx.Err() != nil:
		r.Code, r.Outcome = CodeCanceled, Canceled
	case a.tooMuch:
		r.Code, r.Outcome = sandbox.ExitOutput, TooMuchOut
	case r.Evidence.Status == sandbox.Refused, r.Evidence.Status == sandbox.Lost:
		r.Code, r.Outcome = sandbox.ExitRefused, Refused
	case r.Evidence.Status == sandbox.Limited && a.result == nil:
		r.Code = r.Evidence.ExitCode()
		r.Outcome = outcomeOf(r.Code)
	case a.result == nil:
		a.failed()
	default:
		a.claimed()
	}
}

// failed is a call that ended without a result.
func (a *attempt) failed() {
	r := a.run
	if r.Err == nil {
		r.Err = sdk.Errorf(codes.Internal, "NO_RESULT", "plugin %s ended without a result", r.Plugin).WithRemedy("report it to the plugin's author")
	}
	r.Code, r.Outcome = CodeCrashed, Crashed
	switch {
	case r.Err.Reason == "BAD_TASK" || r.Err.Code == codes.InvalidArgument:
		r.Code, r.Outcome = CodeBadTask, BadTask
	case r.Err.Code == codes.DeadlineExceeded:
		r.Code, r.Outcome = sandbox.ExitTimeout, TimedOut
	}
}

// claimed takes over a result, as far as it agrees with what was seen.
func (a *attempt) claimed() {
	r := a.run
	r.Explanation = clean(a.result.GetExplanation(), maxExplanation)
	for name, value := range a.result.GetProperties() {
		if len(r.Properties) == maxProperties {
			break
		}
		if r.Properties == nil {
			r.Properties = make(map[string]string)
		}
		r.Properties[clean(name, maxText)] = clean(value, maxText)
	}
	r.Code = int(a.result.GetExitCode())
	r.Outcome = outcomeOf(r.Code)
	if r.Code == CodeChanged { // a plugin may leave the code out
		switch a.result.GetOutcome() {
		case pluginv1.GenerateResult_OUTCOME_CHANGED:
		case pluginv1.GenerateResult_OUTCOME_UNCHANGED:
			r.Code, r.Outcome = CodeNothingToDo, NothingToDo
		case pluginv1.GenerateResult_OUTCOME_GAVE_UP:
			r.Code, r.Outcome = CodeNeedsPerson, NeedsPerson
		default:
			r.Code, r.Outcome = sandbox.ExitRefused, Refused
		}
	}
	if r.Outcome != Changed {
		return
	}
	switch {
	case len(r.Changes.Rejected) > 0:
		r.Outcome = Rejected
	case len(r.Changes.Changes) == 0:
		r.Code, r.Outcome = CodeNothingToDo, NothingToDo
		r.Explanation = cmp.Or(r.Explanation, "The generator says that it changed something; it did not.")
	}
}

// clean makes text of others fit to be shown: valid, bounded, nothing that a
// terminal would act on.
func clean(text string, limit int) string {
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
}
