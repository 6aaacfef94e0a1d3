package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func testTask() *apiv1.TaskRecord {
	return &apiv1.TaskRecord{
		Id: "019cc000-0000-7000-8000-000000000001", Kind: "gap", Title: "host: 3 × docs.go.exported", Type: "documentation_incomplete", Severity: "low",
		Workspace: "main", Target: "host", Rule: "docs.go.exported", Gaps: []string{"g1", "g2", "g3"}, Route: "docs", Sandbox: "scaffold", State: "running",
		Reason: "the generator runs", Priority: 212, Attempts: 1, MaxAttempts: 3, Holder: "host", Fence: 2, LeaseUntil: before(-5 * time.Minute),
		CreatedBy: "planner", CreatedAt: before(time.Hour), ChangedAt: before(time.Minute), DueAt: before(time.Hour),
		History: []*apiv1.TaskTransition{
			{At: before(time.Hour), Action: "created", To: "backlog", By: "planner", Reason: "for rule docs"},
			{At: before(time.Minute), Action: "claimed", From: "ready", To: "leased", By: "host", Fence: 2},
		},
	}
}

// fakeTask answers as in a scenario.
type fakeTask struct{ fakeHost }

func (h fakeTask) ListTasks(_ context.Context, r *connect.Request[apiv1.ListTasksRequest]) (*connect.Response[apiv1.ListTasksResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListTasksResponse{})
	}
	pinned := testTask()
	pinned.Id, pinned.State, pinned.Pinned, pinned.Holder, pinned.Title = "019cc000-0000-7000-8000-000000000002", "awaiting_approval", true, "", "a\x1b[31m"
	all := []*apiv1.TaskRecord{pinned, testTask()}
	return answer(h.fakeHost, &apiv1.ListTasksResponse{Tasks: all[:min(len(all), int(r.Msg.GetPageSize()))], Total: 2})
}

func (h fakeTask) pack() *structpb.Struct {
	s, err := structpb.NewStruct(map[string]any{"contract": "sop.generator/v1", "goal": "say what it does <&>"})
	if err != nil {
		panic(err)
	}
	return s
}

func (h fakeTask) GetTask(_ context.Context, r *connect.Request[apiv1.GetTaskRequest]) (*connect.Response[apiv1.GetTaskResponse], error) {
	if r.Msg.GetId() == "019cb" {
		t := testTask()
		t.State, t.Reason, t.Needs, t.DependsOn = "blocked", "waits for the protocol scp", []string{"scp"}, []string{"019ca"}
		t.WaitsFor = []string{"task 019ca to be done, which is ready: first", "protocol scp: it is inactive: sop protocol activate scp"}
		return answer(h.fakeHost, &apiv1.GetTaskResponse{Task: t, Package: h.pack()})
	}
	return answer(h.fakeHost, &apiv1.GetTaskResponse{Task: testTask(), Package: h.pack()})
}

func (h fakeTask) CreateTask(_ context.Context, r *connect.Request[apiv1.CreateTaskRequest]) (*connect.Response[apiv1.CreateTaskResponse], error) {
	t := testTask()
	t.Title = r.Msg.GetTitle()
	return answer(h.fakeHost, &apiv1.CreateTaskResponse{Task: t})
}

func (h fakeTask) ClaimTask(_ context.Context, r *connect.Request[apiv1.ClaimTaskRequest]) (*connect.Response[apiv1.ClaimTaskResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ClaimTaskResponse{})
	}
	if r.Msg.GetValidateOnly() {
		return answer(h.fakeHost, &apiv1.ClaimTaskResponse{Task: testTask()})
	}
	return answer(h.fakeHost, &apiv1.ClaimTaskResponse{Task: testTask(), Package: h.pack(), Token: testSecret})
}

func (h fakeTask) HeartbeatTask(_ context.Context, r *connect.Request[apiv1.HeartbeatTaskRequest]) (*connect.Response[apiv1.HeartbeatTaskResponse], error) {
	switch r.Msg.GetFence() {
	case 1:
		return nil, connect.NewError(connect.CodeAborted, context.Canceled)
	case 3:
		return answer(h.fakeHost, &apiv1.HeartbeatTaskResponse{Stop: "the task is cancelled: not wanted"})
	}
	return answer(h.fakeHost, &apiv1.HeartbeatTaskResponse{LeaseUntil: before(-5 * time.Minute)})
}

func (h fakeTask) SubmitTask(_ context.Context, r *connect.Request[apiv1.SubmitTaskRequest]) (*connect.Response[apiv1.SubmitTaskResponse], error) {
	if f := r.Msg.GetFiles(); len(f) != 2 || string(f[0].GetContent()) != "new\n" || f[0].GetOp() != "put" || f[1].GetOp() != "delete" || r.Msg.GetToken() != testSecret {
		return nil, connect.NewError(connect.CodeInvalidArgument, context.Canceled)
	}
	return answer(h.fakeHost, &apiv1.SubmitTaskResponse{Task: testTask(), Patch: "019cd000"})
}

func (h fakeTask) GiveUpTask(context.Context, *connect.Request[apiv1.GiveUpTaskRequest]) (*connect.Response[apiv1.GiveUpTaskResponse], error) {
	return answer(h.fakeHost, &apiv1.GiveUpTaskResponse{Task: testTask()})
}

func (h fakeTask) GetTaskVerdict(context.Context, *connect.Request[apiv1.GetTaskVerdictRequest]) (*connect.Response[apiv1.GetTaskVerdictResponse], error) {
	return answer(h.fakeHost, &apiv1.GetTaskVerdictResponse{State: "denied", Reason: "too much", Feedback: "only\nthe comment", Closed: true})
}

func (h fakeTask) CancelTask(context.Context, *connect.Request[apiv1.CancelTaskRequest]) (*connect.Response[apiv1.CancelTaskResponse], error) {
	return answer(h.fakeHost, &apiv1.CancelTaskResponse{Task: testTask()})
}

func (h fakeTask) RetryTask(context.Context, *connect.Request[apiv1.RetryTaskRequest]) (*connect.Response[apiv1.RetryTaskResponse], error) {
	return answer(h.fakeHost, &apiv1.RetryTaskResponse{Task: testTask()})
}

func (h fakeTask) PinTask(context.Context, *connect.Request[apiv1.PinTaskRequest]) (*connect.Response[apiv1.PinTaskResponse], error) {
	return answer(h.fakeHost, &apiv1.PinTaskResponse{Task: testTask()})
}
