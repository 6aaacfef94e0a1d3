package api

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// integratingDoor is a nexus with what integration is asked of.
type integratingDoor struct {
	*nexus.Nexus
	patches *patch.Service
	tokens  *token.Service
}

// onlyPatches is what the door asks of patches.
type onlyPatches struct{ *patch.Service }

func (onlyPatches) Rollback(context.Context, string, string, string, bool) (*patch.Patch, []string, error) {
	return nil, nil, errors.New("not here")
}

func newIntegrating(t *testing.T) *integratingDoor {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	key, err := audit.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := token.LoadKey(t.TempDir() + "/token.key")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewService(t.Context(), db.Tokens(), token.Options{Key: hostKey})
	if err != nil {
		t.Fatal(err)
	}
	patches, err := patch.NewService(db.Patches(), patch.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = patches.Close() })
	return &integratingDoor{&nexus.Nexus{Audit: log, Tokens: tokens, Patches: onlyPatches{patches}, Logger: hclog.NewNullLogger()}, patches, tokens}
}

func (n *integratingDoor) propose(t *testing.T, dir, by string) *patch.Patch {
	t.Helper()
	set := &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: dir, Op: sandbox.OpMkdir, Mode: 0o755}}}
	p, err := n.patches.Propose(t.Context(), patch.Proposal{Task: "t1", Workspace: "w", Proposer: by, Set: set, Content: noContent, Old: noContent})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (n *integratingDoor) approved(t *testing.T, p *patch.Patch) {
	t.Helper()
	if _, err := n.patches.StartVerify(t.Context(), p.ID, "host"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.patches.Verified(t.Context(), p.ID, p.Hash, "host", patch.Verdict{Passed: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.patches.Approve(t.Context(), p.ID, p.Hash, "me", ""); err != nil {
		t.Fatal(err)
	}
}

// What is integrated takes a live token of the right type for exactly this
// content, a verdict, and an approval: each is looked at.
func TestPermitIntegration(t *testing.T) {
	n := newIntegrating(t)
	ctx := nexus.WithCaller(t.Context(), nexus.HostCaller("flow"))
	p, other := n.propose(t, "a", "agent"), n.propose(t, "b", "agent")
	secret, err := n.IssueIntegration(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, ctx context.Context, id, secret, reason string) {
		t.Helper()
		accessor, err := n.PermitIntegration(ctx, id, secret)
		if err == nil || accessor != "" || sdk.FromError(err).Reason != reason {
			t.Errorf("%s: %q, %v, want %s", what, accessor, err, reason)
		}
	}
	refused("not verified", ctx, p.ID, secret.Reveal(), nexus.ReasonForbidden)
	n.approved(t, p)
	n.approved(t, other)
	refused("no token", ctx, p.ID, "", nexus.ReasonForbidden)
	refused("for another patch", ctx, other.ID, secret.Reveal(), token.ReasonDenied)
	refused("presented by another", nexus.WithCaller(t.Context(), nexus.HostCaller("else")), p.ID, secret.Reveal(), token.ReasonDenied)
	refused("an exterior agent", nexus.WithCaller(t.Context(), nexus.Caller{Name: "sop:flow", Trust: nexus.Exterior, Method: nexus.MethodKey}), p.ID, secret.Reveal(), nexus.ReasonNotPermitted)
	wrong, _, err := n.tokens.Issue(ctx, token.Spec{Type: token.Operation, Operations: []string{token.Anything}, Requester: "sop:flow", IssuedBy: "x"})
	if err != nil {
		t.Fatal(err)
	}
	refused("a token of another type", ctx, p.ID, wrong.Reveal(), nexus.ReasonForbidden)

	accessor, err := n.PermitIntegration(ctx, p.ID, secret.Reveal())
	if err != nil || accessor != secret.Accessor() {
		t.Fatalf("%q, %v", accessor, err)
	}
	if again, err := n.PermitIntegration(ctx, p.ID, secret.Reveal()); err != nil || again != accessor {
		t.Errorf("a retry: %q, %v", again, err)
	}
	if used, err := n.tokens.Get(ctx, accessor); err != nil || used.State != token.StateCompleted {
		t.Errorf("%+v, %v", used, err)
	}
}

func noContent(sandbox.Change) (io.ReadCloser, error) { return nil, errors.New("there is none") }

// The policies about patches see the patch that is asked about.
func TestPatchesAreAskedAbout(t *testing.T) {
	n := newIntegrating(t)
	p := n.propose(t, "a", "uid:1")
	for name, c := range map[string]struct {
		caller nexus.Caller
		ref    string
		reason string
	}{
		"another":           {nexus.Caller{Name: "uid:2", Trust: nexus.System, Method: nexus.MethodPeer}, p.ID, ""},
		"the proposer":      {nexus.Caller{Name: "uid:1", Trust: nexus.System, Method: nexus.MethodPeer}, p.ID, nexus.ReasonForbidden},
		"by a part of it":   {nexus.Caller{Name: "uid:1", Trust: nexus.System, Method: nexus.MethodPeer}, p.ID[:9], nexus.ReasonForbidden},
		"an exterior agent": {nexus.Caller{Name: "bot", Trust: nexus.Exterior, Method: nexus.MethodKey}, p.ID, nexus.ReasonNotPermitted},
		"what is not there": {nexus.Caller{Name: "bot", Trust: nexus.Exterior, Method: nexus.MethodKey}, "x", nexus.ReasonNotPermitted},
	} {
		ctx := nexus.WithCaller(t.Context(), c.caller)
		resource, err := n.PatchResource(ctx, c.ref)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = n.AuthorizeOn(ctx, "patch.approve", resource, nil)
		if c.reason == "" && err != nil || c.reason != "" && (err == nil || sdk.FromError(err).Reason != c.reason) {
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
}
