package api

import (
	"context"
	"encoding/json"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/task"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// taskService serves sop.api.v1.Task.
type taskService struct{ *nexus.Nexus }

// ListTasks implements the rpc.
func (s *taskService) ListTasks(ctx context.Context, req *connect.Request[apiv1.ListTasksRequest]) (*connect.Response[apiv1.ListTasksResponse], error) {
	filter, err := taskFilter(req.Msg)
	if err != nil {
		return nil, err
	}
	page, err := s.Tasks.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListTasksResponse{NextPageToken: page.Next, Total: page.Total}
	for _, t := range page.Tasks {
		resp.Tasks = append(resp.Tasks, TaskRecord(t))
	}
	return connect.NewResponse(resp), nil
}

// taskFilter converts the request.
func taskFilter(req *apiv1.ListTasksRequest) (task.Filter, error) {
	filter := task.Filter{
		Workspace: req.GetWorkspace(), Holder: req.GetHolder(), Gap: req.GetGap(), Limit: pageSize(req.GetPageSize()), Token: req.GetPageToken(),
	}
	var err error
	if filter.Where, err = parseFilter(req.GetFilter(), task.ListFields); err != nil {
		return filter, err
	}
	if filter.Order, err = parseOrder(req.GetOrderBy(), task.ListFields); err != nil {
		return filter, err
	}
	if filter.States, err = taskWords("states", task.States(), req.GetStates()); err != nil {
		return filter, err
	}
	if len(filter.States) == 0 {
		filter.States = slices.DeleteFunc(task.States(), task.State.Closed)
	}
	filter.Kinds, err = taskWords("kinds", task.Kinds(), req.GetKinds())
	return filter, err
}

// taskWords converts words, of which each must be one of all.
func taskWords[T ~string](field string, all []T, words []string) ([]T, error) {
	var out []T
	for _, w := range words {
		if !slices.Contains(all, T(w)) {
			return nil, sdk.Errorf(codes.InvalidArgument, task.ReasonInvalid, "there is no %q among the %s of tasks", w, field).
				WithRemedy("they are %v", all).WithField(field, "")
		}
		out = append(out, T(w))
	}
	return out, nil
}

// GetTask implements the rpc.
func (s *taskService) GetTask(ctx context.Context, req *connect.Request[apiv1.GetTaskRequest]) (*connect.Response[apiv1.GetTaskResponse], error) {
	t, err := s.Tasks.Get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	record := TaskRecord(t)
	if record.WaitsFor, err = s.Tasks.WaitsFor(ctx, t); err != nil {
		return nil, err
	}
	pack, problem := s.packageOf(ctx, t)
	return connect.NewResponse(&apiv1.GetTaskResponse{Task: record, Package: pack, PackageProblem: problem}), nil
}

// packageOf returns the package of a task, or why there is none: the task itself
// can be shown all the same.
func (s *taskService) packageOf(ctx context.Context, t *task.Task) (pack *structpb.Struct, problem string) {
	p, err := s.Tasks.Package(ctx, t)
	if err != nil {
		return nil, err.Error()
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err.Error()
	}
	pack = &structpb.Struct{}
	if err := pack.UnmarshalJSON(text); err != nil {
		return nil, err.Error()
	}
	return pack, ""
}

// CreateTask implements the rpc.
func (s *taskService) CreateTask(ctx context.Context, req *connect.Request[apiv1.CreateTaskRequest]) (*connect.Response[apiv1.CreateTaskResponse], error) {
	m := req.Msg
	if _, err := s.workspace(ctx, m.GetWorkspace()); err != nil {
		return nil, err
	}
	n := task.New{
		Kind: task.KindManual, Title: m.GetTitle(), Type: m.GetType(), Severity: m.GetSeverity(), Workspace: m.GetWorkspace(), Target: m.GetTarget(),
		DependsOn: m.GetDependsOn(), Needs: m.GetNeeds(), Pinned: m.GetPinned(), By: by(ctx), Why: m.GetReason(),
		Spec: task.Spec{
			Goal: m.GetGoal(), Criteria: m.GetSuccessCriteria(), Requirements: m.GetRequirements(), Scope: m.GetScope(), Protected: m.GetProtected(),
			Sandbox: m.GetSandbox(), Scaffold: m.GetScaffold(),
		},
	}
	for _, ref := range m.GetGaps() {
		g, err := s.Gaps.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		n.Gaps = append(n.Gaps, g.ID)
	}
	do := s.Tasks.Create
	if m.GetValidateOnly() {
		do = s.Tasks.CheckCreate
	}
	t, err := do(ctx, n)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CreateTaskResponse{Task: TaskRecord(t)}), nil
}

// workspace returns the configured workspace of that name.
func (s *taskService) workspace(ctx context.Context, name string) (*apiv1.WorkspaceStatus, error) {
	all, err := s.Workspaces.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, w := range all {
		if w.GetName() == name {
			return w, nil
		}
		names = append(names, w.GetName())
	}
	return nil, sdk.Errorf(codes.NotFound, "WORKSPACE_UNKNOWN", "there is no workspace %q", name).WithRemedy("the configured workspaces are: %v", names)
}

// ClaimTask implements the rpc.
func (s *taskService) ClaimTask(ctx context.Context, req *connect.Request[apiv1.ClaimTaskRequest]) (*connect.Response[apiv1.ClaimTaskResponse], error) {
	m := req.Msg
	claim := task.ClaimRequest{Stage: task.StageGenerate, By: by(ctx), ID: m.GetId(), Workspace: m.GetWorkspace()}
	if m.GetLease() != nil {
		if claim.Lease = m.GetLease().AsDuration(); claim.Lease == 0 {
			claim.Lease = -1 // which is refused: it was asked for
		}
	}
	if m.GetValidateOnly() {
		t, err := s.Tasks.CheckClaim(ctx, claim)
		if err != nil || t == nil {
			return connect.NewResponse(&apiv1.ClaimTaskResponse{}), err
		}
		return connect.NewResponse(&apiv1.ClaimTaskResponse{Task: TaskRecord(t)}), nil
	}
	t, secret, err := s.Nexus.ClaimTask(ctx, claim)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return connect.NewResponse(&apiv1.ClaimTaskResponse{}), nil
	}
	pack, problem := s.packageOf(ctx, t)
	return connect.NewResponse(&apiv1.ClaimTaskResponse{Task: TaskRecord(t), Package: pack, PackageProblem: problem, Token: secret.Reveal()}), nil
}

// HeartbeatTask implements the rpc.
func (s *taskService) HeartbeatTask(ctx context.Context, req *connect.Request[apiv1.HeartbeatTaskRequest]) (*connect.Response[apiv1.HeartbeatTaskResponse], error) {
	ctx, t, err := s.UnderTodo(ctx, req.Msg.GetToken(), permission(req.Spec()), req.Msg.GetId(), false)
	if err != nil {
		return nil, err
	}
	hold := task.Hold{ID: t.ID, Fence: req.Msg.GetFence(), By: by(ctx)}
	if req.Msg.GetValidateOnly() {
		t, err := s.Tasks.CheckHold(ctx, hold)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&apiv1.HeartbeatTaskResponse{LeaseUntil: stamp(t.LeaseUntil)}), nil
	}
	beat, err := s.Tasks.Heartbeat(ctx, hold)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.HeartbeatTaskResponse{LeaseUntil: stamp(beat.Until), Stop: beat.Stop}), nil
}

// SubmitTask implements the rpc.
func (s *taskService) SubmitTask(ctx context.Context, req *connect.Request[apiv1.SubmitTaskRequest]) (*connect.Response[apiv1.SubmitTaskResponse], error) {
	m := req.Msg
	ctx, t, err := s.UnderTodo(ctx, m.GetToken(), permission(req.Spec()), m.GetId(), !m.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	hold := task.Hold{ID: t.ID, Fence: m.GetFence(), By: by(ctx)}
	sub := task.Submission{Explanation: m.GetExplanation()}
	for _, f := range m.GetFiles() {
		sub.Files = append(sub.Files, task.File{
			Path: f.GetPath(), Op: task.Op(f.GetOp()), Mode: f.GetMode(), Content: f.GetContent(), Target: f.GetTarget(), OldSHA256: f.GetOldSha256(),
		})
	}
	if m.GetValidateOnly() {
		return connect.NewResponse(&apiv1.SubmitTaskResponse{Task: TaskRecord(t)}), s.Tasks.CheckSubmit(ctx, hold, sub)
	}
	if t, err = s.Tasks.Submit(ctx, hold, sub); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.SubmitTaskResponse{Task: TaskRecord(t), Patch: t.Patch}), nil
}

// GiveUpTask implements the rpc.
func (s *taskService) GiveUpTask(ctx context.Context, req *connect.Request[apiv1.GiveUpTaskRequest]) (*connect.Response[apiv1.GiveUpTaskResponse], error) {
	m := req.Msg
	ctx, t, err := s.UnderTodo(ctx, m.GetToken(), permission(req.Spec()), m.GetId(), !m.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	hold := task.Hold{ID: t.ID, Fence: m.GetFence(), By: by(ctx)}
	switch {
	case m.GetValidateOnly():
		t, err = s.Tasks.CheckHold(ctx, hold)
	case m.GetFailed() || m.GetFinal():
		t, err = s.Tasks.Fail(ctx, hold, task.Failure{Why: m.GetReason(), Final: m.GetFinal()})
	default:
		t, err = s.Tasks.Release(ctx, hold, m.GetReason())
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GiveUpTaskResponse{Task: TaskRecord(t)}), nil
}

// GetTaskVerdict implements the rpc.
func (s *taskService) GetTaskVerdict(ctx context.Context, req *connect.Request[apiv1.GetTaskVerdictRequest]) (*connect.Response[apiv1.GetTaskVerdictResponse], error) {
	_, t, err := s.UnderTodo(ctx, req.Msg.GetToken(), permission(req.Spec()), req.Msg.GetId(), false)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetTaskVerdictResponse{
		State: string(t.State), Reason: t.Reason, Patch: t.Patch, Feedback: t.Feedback, Closed: t.State.Closed(),
	}), nil
}

// CancelTask implements the rpc.
func (s *taskService) CancelTask(ctx context.Context, req *connect.Request[apiv1.CancelTaskRequest]) (*connect.Response[apiv1.CancelTaskResponse], error) {
	do := s.Tasks.Cancel
	if req.Msg.GetValidateOnly() {
		do = s.Tasks.CheckCancel
	}
	t, err := do(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CancelTaskResponse{Task: TaskRecord(t)}), nil
}

// RetryTask implements the rpc.
func (s *taskService) RetryTask(ctx context.Context, req *connect.Request[apiv1.RetryTaskRequest]) (*connect.Response[apiv1.RetryTaskResponse], error) {
	do := s.Tasks.Retry
	if req.Msg.GetValidateOnly() {
		do = s.Tasks.CheckRetry
	}
	t, err := do(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RetryTaskResponse{Task: TaskRecord(t)}), nil
}

// PinTask implements the rpc.
func (s *taskService) PinTask(ctx context.Context, req *connect.Request[apiv1.PinTaskRequest]) (*connect.Response[apiv1.PinTaskResponse], error) {
	do := s.Tasks.Pin
	if req.Msg.GetValidateOnly() {
		do = s.Tasks.CheckPin
	}
	t, err := do(ctx, req.Msg.GetId(), !req.Msg.GetOff(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.PinTaskResponse{Task: TaskRecord(t)}), nil
}
