package nexus_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/sdk"
)

// Fakes of which only what a revocation takes is there.
type (
	revokedAgents struct{ nexus.Agents }
	heldTokens    struct {
		nexus.Tokens
		err error
		why string
	}
	heldTasks struct {
		nexus.Tasks
		err   error
		asked int
	}
)

func (revokedAgents) Revoke(_ context.Context, name, _, _ string) (*agent.Agent, error) {
	if name == "nobody" {
		return nil, agent.ErrNotFound
	}
	return &agent.Agent{Name: name, State: agent.StateRevoked, Reason: "left"}, nil
}

func (h *heldTokens) RevokeHeld(_ context.Context, _, _, why string) (int, error) {
	h.why = why
	return 2, h.err
}

func (h *heldTasks) TakeBack(context.Context, string, string, string) (int, error) {
	h.asked++
	return 1, h.err
}

// An agent that is revoked and whose things could not be ended is revoked all the
// same, and who revoked it is told what is left and what to do.
func TestRevokeAgent(t *testing.T) {
	full := sdk.Errorf(codes.Unavailable, "STORE_FULL", "the disk is full").WithRemedy("make room")
	for name, c := range map[string]struct {
		agent         string
		tokens, tasks error
		want          string // in the error; empty: none
		asked         int    // for tasks
	}{
		"all":     {agent: "a", asked: 1},
		"nobody":  {agent: "nobody", want: "no such agent"},
		"tokens":  {agent: "a", tokens: full, want: "agent a is revoked, but its tokens, which are refused, are not all recorded"},
		"tasks":   {agent: "a", tasks: full, want: "tasks that it has claimed stay claimed", asked: 1},
		"no code": {agent: "a", tasks: context.DeadlineExceeded, want: "tasks that it has claimed stay claimed", asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, tasks := &heldTokens{err: c.tokens}, &heldTasks{err: c.tasks}
			n := &nexus.Nexus{Agents: revokedAgents{}, Tokens: tokens, Tasks: tasks}
			a, lost, err := n.RevokeAgent(t.Context(), c.agent, "operator", "")
			if tasks.asked != c.asked {
				t.Errorf("asked for tasks %d times", tasks.asked)
			}
			if c.want == "" {
				if err != nil || a.State != agent.StateRevoked || lost.Tokens != 2 || lost.Tasks != 1 || tokens.why != "agent a was revoked: left" {
					t.Errorf("%+v, %+v, %q, %v", a, lost, tokens.why, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if cause := errors.Join(c.tokens, c.tasks); cause != nil {
				e := sdk.FromError(err)
				if e.Code != sdk.FromError(cause).Code || !strings.HasPrefix(e.Remedy, "revoke it again") || strings.HasSuffix(e.Remedy, "; ") {
					t.Errorf("%v, remedy %q", e.Code, e.Remedy)
				}
			}
		})
	}
}
