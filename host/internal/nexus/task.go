package nexus

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// Tasks are what is to be done; *task.Service is one.
type Tasks interface {
	List(ctx context.Context, filter task.Filter) (task.Page, error)
	Get(ctx context.Context, ref string) (*task.Task, error)
	Package(ctx context.Context, t *task.Task) (*task.Package, error)
	// WaitsFor says what a blocked task waits for, a sentence each.
	WaitsFor(ctx context.Context, t *task.Task) ([]string, error)
	Create(ctx context.Context, n task.New) (*task.Task, error)
	Claim(ctx context.Context, req task.ClaimRequest) (*task.Task, error)
	Heartbeat(ctx context.Context, h task.Hold) (task.Beat, error)
	Submit(ctx context.Context, h task.Hold, sub task.Submission) (*task.Task, error)
	Fail(ctx context.Context, h task.Hold, f task.Failure) (*task.Task, error)
	Release(ctx context.Context, h task.Hold, why string) (*task.Task, error)
	// TakeBack takes back all that somebody holds.
	TakeBack(ctx context.Context, holder, by, why string) (int, error)
	Cancel(ctx context.Context, ref, by, why string) (*task.Task, error)
	Retry(ctx context.Context, ref, by, why string) (*task.Task, error)
	Pin(ctx context.Context, ref string, pinned bool, by, why string) (*task.Task, error)
	// The checks change nothing and return the task as it would be.
	CheckCreate(ctx context.Context, n task.New) (*task.Task, error)
	CheckClaim(ctx context.Context, req task.ClaimRequest) (*task.Task, error)
	CheckHold(ctx context.Context, h task.Hold) (*task.Task, error)
	CheckSubmit(ctx context.Context, h task.Hold, sub task.Submission) error
	CheckCancel(ctx context.Context, ref, by, why string) (*task.Task, error)
	CheckRetry(ctx context.Context, ref, by, why string) (*task.Task, error)
	CheckPin(ctx context.Context, ref string, pinned bool, by, why string) (*task.Task, error)
}

// What a todo token of a claimed task permits.
const (
	permitHeartbeat = "task.heartbeat"
	permitSubmit    = "task.submit"
	permitVerdict   = "task.status"
)

// ClaimTask gives a task to the caller, with a todo token that is bound to both. It
// returns no task when nothing is due.
func (n *Nexus) ClaimTask(ctx context.Context, req task.ClaimRequest) (*task.Task, token.Secret, error) {
	c, _ := CallerFrom(ctx)
	if req.By = c.Name; req.By == task.HostClaimant {
		return nil, token.Secret{}, sdk.Errorf(codes.PermissionDenied, "TASK_NAME", "only the host itself claims as %q", req.By)
	}
	t, err := n.Tasks.Claim(ctx, req)
	if err != nil || t == nil {
		return nil, token.Secret{}, err
	}
	secret, _, err := n.Tokens.Issue(ctx, token.Spec{
		Type: token.Todo, Protocol: ProtocolSOP, Operations: []string{permitHeartbeat, permitSubmit, permitVerdict},
		Requester: c.Name, Task: t.ID, Workspace: t.Workspace, IssuedBy: c.Name, Why: fmt.Sprintf("task claimed, fence %d", t.Fence),
	})
	if err != nil {
		// Nobody could do anything with it.
		if _, back := n.Tasks.Release(context.WithoutCancel(ctx), t.Hold(), "no token could be issued"); back != nil {
			n.Logger.Error("give a task back", "task", t.ID, "error", back)
		}
		return nil, token.Secret{}, err
	}
	return t, secret, nil
}

// UnderTodo returns the task that is meant, when the token permits the caller what
// permission names on it. A use is taken only where spend says so.
func (n *Nexus) UnderTodo(ctx context.Context, secret, permission, ref string, spend bool) (context.Context, *task.Task, error) {
	ctx, requester, err := Presenting(ctx, "")
	if err != nil {
		return ctx, nil, err
	}
	t, err := n.Tasks.Get(ctx, ref)
	req := token.Request{Requester: requester, Protocol: ProtocolSOP, Operation: permission, Source: requester}
	if err == nil {
		req.Task, req.Workspace = t.ID, t.Workspace
	} else {
		req.Task = ref // who has no token for it does not learn that there is no such task
	}
	if spend && err == nil {
		_, refused := n.Tokens.Consume(ctx, secret, req)
		if refused != nil {
			return ctx, nil, n.TokenRefused(ctx, permission, secret, refused)
		}
		return ctx, t, nil
	}
	if _, refused := n.Tokens.Validate(ctx, secret, req); refused != nil {
		return ctx, nil, n.TokenRefused(ctx, permission, secret, refused)
	}
	return ctx, t, err
}
