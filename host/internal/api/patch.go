package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// maxDiff bounds the diff of an answer, in bytes, and mostChanges what it lists.
const (
	maxDiff     = 4 << 20
	mostChanges = 10_000
)

// patchService serves sop.api.v1.Patch.
type patchService struct{ *nexus.Nexus }

// resourceOf is what policy is asked about a request. For what it has to look up,
// it asks the nexus.
func (d *door) resourceOf(ctx context.Context, request any) (policy.Resource, error) {
	switch r := request.(type) {
	case *apiv1.GetPatchRequest:
		return d.nexus.PatchResource(ctx, r.GetId())
	case *apiv1.ApprovePatchRequest:
		return d.nexus.PatchResource(ctx, r.GetId())
	case *apiv1.DenyPatchRequest:
		return d.nexus.PatchResource(ctx, r.GetId())
	case *apiv1.RollbackPatchRequest:
		return d.nexus.PatchResource(ctx, r.GetId())
	}
	return resourceOf(request), nil
}

// ListPatches implements the rpc.
func (s *patchService) ListPatches(ctx context.Context, req *connect.Request[apiv1.ListPatchesRequest]) (*connect.Response[apiv1.ListPatchesResponse], error) {
	f, err := patchFilter(req.Msg)
	if err != nil {
		return nil, err
	}
	page, err := s.Patches.List(ctx, f)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListPatchesResponse{NextPageToken: page.Next}
	for _, p := range page.Patches {
		resp.Patches = append(resp.Patches, PatchRecord(p))
	}
	return connect.NewResponse(resp), nil
}

func patchFilter(req *apiv1.ListPatchesRequest) (patch.Filter, error) {
	f := patch.Filter{Workspace: req.GetWorkspace(), Task: req.GetTask(), Limit: pageSize(req.GetPageSize()), Token: req.GetPageToken()}
	var err error
	if f.Where, err = parseFilter(req.GetFilter(), patch.ListFields); err != nil {
		return f, err
	}
	if f.Order, err = parseOrder(req.GetOrderBy(), patch.ListFields); err != nil {
		return f, err
	}
	known := make(map[string]bool)
	for _, state := range patch.States() {
		known[string(state)] = true
		if len(req.GetStates()) == 0 && (!state.Terminal() || state == patch.StateIntegrated) {
			f.States = append(f.States, state)
		}
	}
	for _, name := range req.GetStates() {
		if !known[name] {
			return f, sdk.Errorf(codes.InvalidArgument, "PATCH_STATE", "there is no patch state %.80q", name).
				WithRemedy("the states are %v", patch.States()).WithField("states", "")
		}
		f.States = append(f.States, patch.State(name))
	}
	return f, nil
}

// GetPatch implements the rpc.
func (s *patchService) GetPatch(ctx context.Context, req *connect.Request[apiv1.GetPatchRequest]) (*connect.Response[apiv1.GetPatchResponse], error) {
	p, err := s.Patches.Get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.GetPatchResponse{Patch: PatchRecord(p)}
	if req.Msg.GetDiff() {
		if resp.Diff, err = s.Patches.Diff(ctx, p, maxDiff); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(resp), nil
}

// ApprovePatch implements the rpc.
func (s *patchService) ApprovePatch(ctx context.Context, req *connect.Request[apiv1.ApprovePatchRequest]) (*connect.Response[apiv1.ApprovePatchResponse], error) {
	approve := s.Patches.Approve
	if req.Msg.GetValidateOnly() {
		approve = s.Patches.CheckApprove
	}
	p, err := approve(ctx, req.Msg.GetId(), req.Msg.GetHash(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ApprovePatchResponse{Patch: PatchRecord(p)}), nil
}

// DenyPatch implements the rpc.
func (s *patchService) DenyPatch(ctx context.Context, req *connect.Request[apiv1.DenyPatchRequest]) (*connect.Response[apiv1.DenyPatchResponse], error) {
	deny := s.Patches.Deny
	if req.Msg.GetValidateOnly() {
		deny = s.Patches.CheckDeny
	}
	p, err := deny(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.DenyPatchResponse{Patch: PatchRecord(p)}), nil
}

// RollbackPatch implements the rpc.
func (s *patchService) RollbackPatch(ctx context.Context, req *connect.Request[apiv1.RollbackPatchRequest]) (*connect.Response[apiv1.RollbackPatchResponse], error) {
	if req.Msg.GetValidateOnly() {
		p, err := s.Patches.TryRollback(ctx, req.Msg.GetId(), patch.RollbackRequest{By: by(ctx), Merge: req.Msg.GetMerge()})
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&apiv1.RollbackPatchResponse{Patch: PatchRecord(p)}), nil
	}
	p, how, err := s.RollBack(ctx, req.Msg.GetId(), req.Msg.GetReason(), req.Msg.GetMerge())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RollbackPatchResponse{Patch: PatchRecord(p), Notes: how.Notes, Source: how.From, Backup: how.Backup}), nil
}

// PatchRecord converts a patch.
func PatchRecord(p *patch.Patch) *apiv1.PatchRecord {
	out := &apiv1.PatchRecord{
		Id: p.ID, Task: p.Task, Workspace: p.Workspace, Title: p.Title, Proposer: p.Proposer, Hash: p.Hash, State: string(p.State), Reason: p.Reason,
		Approval: string(p.Rule), ApprovalsNeeded: int32(p.Needed()), Files: int32(p.Files), Bytes: p.Bytes, Passed: p.Passed,
		Supersedes: p.Supersedes, SupersededBy: p.SupersededBy, Token: p.Token, Backup: p.Backup,
		Mode: p.Done.Mode, Commit: p.Done.Commit, Branch: p.Done.Branch, File: p.Done.File, Notes: p.Done.Notes,
		CreatedAt: stamp(p.CreatedAt), ChangedAt: stamp(p.ChangedAt), IntegratedAt: stamp(p.IntegratedAt), ContentDropped: p.Dropped,
		Evidence: string(p.Evidence), Verdict: string(p.Verdict),
	}
	for _, r := range p.Risks {
		out.Risks = append(out.Risks, string(r))
	}
	for _, a := range p.Approvals {
		out.Approvals = append(out.Approvals, &apiv1.PatchApproval{By: a.By, Hash: a.Hash, At: stamp(a.At), Reason: a.Why})
	}
	for _, c := range p.History {
		out.History = append(out.History, &apiv1.PatchTransition{
			At: stamp(c.At), Action: string(c.Action), From: string(c.From), To: string(c.To), By: c.By, Reason: c.Why, Token: c.Token,
		})
	}
	if p.Set == nil {
		return out
	}
	for i := range p.Set.Changes[:min(len(p.Set.Changes), mostChanges)] {
		c := &p.Set.Changes[i]
		out.Changes = append(out.Changes, &apiv1.PatchFileChange{
			Path: c.Path, Op: string(c.Op), Mode: int32(c.Mode), OldMode: int32(c.OldMode), Size: c.Size, Sha256: c.SHA256, OldSha256: c.OldSHA256, Target: c.Target, Flag: c.Flag,
		})
	}
	return out
}
