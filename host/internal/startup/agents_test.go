package startup

import (
	"path/filepath"
	"testing"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/token"
)

// A host that ended between revoking an agent and ending what it held does the rest
// when it starts.
func TestForfeitedTokensEndAtTheNextStart(t *testing.T) {
	ctx, h := t.Context(), tokenHost(t)
	agentKey, err := agent.LoadHostKey(filepath.Join(t.TempDir(), "agent.key"))
	if err != nil {
		t.Fatal(err)
	}
	if h.agents, err = agent.NewService(ctx, h.store.Agents(), agent.Options{Key: agentKey}); err != nil {
		t.Fatal(err)
	}
	h.tasks = task.NewService(h.store.Tasks(), task.Options{})
	made, err := h.tasks.Create(ctx, task.New{Kind: task.KindManual, Title: "mend it", Type: "code_quality", Severity: "low", Workspace: "main", By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := h.tasks.Claim(ctx, task.ClaimRequest{Stage: task.StageGenerate, ID: made.ID, By: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]token.State) // by id
	issue := func(holder string, state token.State) string {
		t.Helper()
		secret, issued, err := h.tokens.Issue(ctx, token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: holder, IssuedBy: "test"})
		if err != nil {
			t.Fatal(err)
		}
		want[issued.ID] = state
		return secret.Reveal()
	}
	for _, name := range []string{"gone", "stays"} {
		if _, _, err := h.agents.Enroll(ctx, agent.Spec{Name: name, Trust: "system", By: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	issue("stays", token.StateActive)
	parent := issue("gone", token.StateRevoked)
	_, child, err := h.tokens.IssueChild(ctx, parent, token.Request{Requester: "gone"}, token.Spec{Requester: "stays", MaxUses: 1})
	if err != nil {
		t.Fatal(err)
	}
	want[child.ID] = token.StateRevoked
	if _, err := h.agents.Revoke(ctx, "gone", "test", "left"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // there may be nothing to do
		h.endForfeited(ctx)
		if got, err := h.tasks.Get(ctx, claimed.ID); err != nil || got.Holder != "" || got.State != task.StateReady {
			t.Errorf("%+v, %v", got, err)
		}
		for id, state := range want {
			if got, err := h.tokens.Get(ctx, id); err != nil || got.State != state || (state == token.StateRevoked && got.Reason != "agent gone was revoked: left") {
				t.Errorf("%+v, %v; want %s", got, err, state)
			}
		}
	}
}
