package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func testPatch() *apiv1.PatchRecord {
	return &apiv1.PatchRecord{
		Id: "019cb000-0000-7000-8000-0000000000b1", Task: "019cb001", Workspace: "main", Title: "Comment on T", Proposer: "plugin:sandbox.scaffold",
		Hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", State: "verified", Reason: "every step passed", Approval: "two", ApprovalsNeeded: 2,
		Approvals: []*apiv1.PatchApproval{{By: "uid:1000", At: before(time.Minute), Reason: "fine"}},
		Risks:     []string{"ci", "security"}, Files: 1, Bytes: 1234, Passed: true, CreatedAt: before(time.Hour), ChangedAt: before(time.Minute),
		Changes: []*apiv1.PatchFileChange{
			{Path: ".github/x\x1b[31m.yml", Op: "modify", Flag: "continuous integration"}, {Path: "link", Op: "symlink", Target: "a"},
		},
		Evidence: testEvidence, Verdict: testVerdict,
		History: []*apiv1.PatchTransition{{At: before(time.Hour), Action: "proposed", To: "proposed", By: "plugin:sandbox.scaffold", Reason: "proposed"}},
	}
}

// testEvidence and testVerdict are as generate.Run and verify.Verdict write them.
const (
	testEvidence = `{"run_id":"r","task_id":"t","plugin":"sandbox.scaffold","outcome":"changed","code":0,"explanation":"1 of 2 gaps.\na.go:3: x\u001b[31m",
	"properties":{"scaffold":"go-doc","scaffold_version":"1"},"evidence":{"status":"exited","exit":0,"level":"strict","denied":[{}]},
	"started":"2026-03-04T11:00:00Z","ended":"2026-03-04T11:00:01.5Z"}`
	testVerdict = `{"passed":true,"steps":[{"name":"protected","runner":"protected","passed":true,"took_ns":1000000},
	{"name":"test","runner":"go-test","passed":true,"tests":{"packages":2,"expected":3,"passed":4,"failed":0,"skipped":1,"challenged":3},"took_ns":2500000000},
	{"name":"gap","runner":"gap","passed":true,"gaps":[{"detector":"d","rule":"docs.go.exported","path":"a.go","wanted":1,"before":1,"after":0}],"took_ns":700000000}],
	"coverage":{"before":{"covered":3,"statements":4},"after":{"covered":3,"statements":6},"lowered":true,
	"packages":[{"dir":"a","before":{"covered":3,"statements":4},"after":{"covered":3,"statements":5}},{"dir":"new","before":{"covered":0,"statements":0},"after":{"covered":0,"statements":1}}]},"took_ns":3200000000}`
	failedVerdict = `{"passed":false,"why":"test: a: TestA failed","steps":[{"name":"test","passed":false,"why":"a: TestA failed",
	"tests":{"expected":2,"passed":1,"failed":1,"challenged":0,"problems":["a: TestA failed","a: TestB was not run"]},
	"runs":[{"argv":["a/a.test","-test.v"],"result":{"status":"exited","exit":1,"stdout":{"text":"one\ntwo\n"},"stderr":{"text":"panic: x\n"}}}],"took_ns":1000000}],
	"coverage":{"before":{},"after":{},"lowered":false,"not_measured":"the patch has not passed"},"took_ns":1}`
)

const testDiff = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,1 +1,1 @@\n-old\n+new \x1b[31mred\n"

// fakePatch answers as in a scenario.
type fakePatch struct{ fakeHost }

func (h fakePatch) ListPatches(_ context.Context, _ *connect.Request[apiv1.ListPatchesRequest]) (*connect.Response[apiv1.ListPatchesResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListPatchesResponse{})
	}
	done := testPatch()
	done.State, done.Risks, done.Title = "integrated", nil, "A README"
	return answer(h.fakeHost, &apiv1.ListPatchesResponse{Patches: []*apiv1.PatchRecord{testPatch(), done}})
}

func (h fakePatch) GetPatch(_ context.Context, r *connect.Request[apiv1.GetPatchRequest]) (*connect.Response[apiv1.GetPatchResponse], error) {
	resp := &apiv1.GetPatchResponse{Patch: testPatch()}
	switch r.Msg.GetId() {
	case "019cf":
		resp.Patch.State, resp.Patch.Verdict, resp.Patch.Evidence = "rejected", failedVerdict, `{"submitted_by":"agent:bot","fence":2,"explanation":"as asked"}`
	case "019c0": // of a form that is not known
		resp.Patch.Verdict, resp.Patch.Evidence = `{"steps":[]}`, `{"level":"strict"}`
	}
	if r.Msg.GetDiff() {
		resp.Diff = testDiff
	}
	return answer(h.fakeHost, resp)
}

func (h fakePatch) ApprovePatch(_ context.Context, r *connect.Request[apiv1.ApprovePatchRequest]) (*connect.Response[apiv1.ApprovePatchResponse], error) {
	p := testPatch()
	if r.Msg.GetHash() != p.GetHash() {
		return nil, connect.NewError(connect.CodeAborted, context.Canceled)
	}
	if r.Msg.GetReason() == "second" {
		p.State = "approved"
	}
	return answer(h.fakeHost, &apiv1.ApprovePatchResponse{Patch: p})
}

func (h fakePatch) DenyPatch(_ context.Context, r *connect.Request[apiv1.DenyPatchRequest]) (*connect.Response[apiv1.DenyPatchResponse], error) {
	p := testPatch()
	p.State, p.Reason = "denied", r.Msg.GetReason()
	return answer(h.fakeHost, &apiv1.DenyPatchResponse{Patch: p})
}

func (h fakePatch) RollbackPatch(_ context.Context, r *connect.Request[apiv1.RollbackPatchRequest]) (*connect.Response[apiv1.RollbackPatchResponse], error) {
	p := testPatch()
	p.State = "rolled_back"
	resp := &apiv1.RollbackPatchResponse{Patch: p, Source: "journal"}
	if r.Msg.GetMerge() {
		resp.Source, resp.Backup = "backup 019cb002", "019cb003"
		resp.Notes = []string{"a keeps what was edited since"}
	}
	return answer(h.fakeHost, resp)
}
