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

// onlyPatches is what the door asks of patches; nothing is in a workspace.
type onlyPatches struct{ *patch.Service }

func (p onlyPatches) Rollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, patch.Reversal, error) {
	how := patch.Reversal{Token: r.Token, From: "journal"}
	one, err := p.BeginRollback(ctx, ref, r.By, r.Why, r.Token)
	if err == nil {
		one, err = p.RolledBack(ctx, one.ID, r.By, r.Why, how)
	}
	return one, how, err
}

func (p onlyPatches) TryRollback(ctx context.Context, ref string, _ patch.RollbackRequest) (*patch.Patch, error) {
	return p.CheckRollback(ctx, ref)
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

// What is taken back takes the consent of policy and a token of its own, which is
// used once and stands in the records.
func TestRollBack(t *testing.T) {
	n := newIntegrating(t)
	p := n.propose(t, "a", "agent")
	n.approved(t, p)
	me := nexus.Caller{Name: "uid:1000", Trust: nexus.System, Method: nexus.MethodPeer}
	ctx := nexus.WithCaller(t.Context(), me)
	_, _, err := n.RollBack(ctx, p.ID, "wrong", false)
	if err == nil || sdk.FromError(err).Reason != patch.ReasonTransition {
		t.Errorf("not integrated: %v", err)
	}
	if _, err := n.patches.Begin(t.Context(), p.ID, p.Hash, "host", "a token"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.patches.Integrated(t.Context(), p.ID, "host", patch.Done{}); err != nil {
		t.Fatal(err)
	}
	me.Trust = nexus.Exterior
	_, _, err = n.RollBack(nexus.WithCaller(t.Context(), me), p.ID, "wrong", false)
	if err == nil || sdk.FromError(err).Reason != nexus.ReasonNotPermitted {
		t.Errorf("an exterior agent: %v", err)
	}
	back, how, err := n.RollBack(ctx, p.ID, "wrong", false)
	if err != nil || back.State != patch.StateRolledBack || how.From != "journal" {
		t.Fatalf("%+v, %+v, %v", back, how, err)
	}
	used, err := n.tokens.Get(ctx, back.Token)
	if err != nil || used.Type != token.Integration || used.State != token.StateCompleted || used.Requester != "uid:1000" {
		t.Errorf("%+v, %v", used, err)
	}
	page, err := n.Audit.List(t.Context(), audit.Filter{Resource: "patch/" + p.ID, Action: "patch.roll"})
	if err != nil || len(page.Records) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, r := range page.Records {
		if r.Token != back.Token || r.Actor != "uid:1000" || r.Reason != "wrong" {
			t.Errorf("%+v", r)
		}
	}
	if r := page.Records[0]; r.Action != "patch.rolled_back" || r.Attributes["source"] != "journal" {
		t.Errorf("%+v", r)
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
