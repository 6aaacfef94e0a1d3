package task_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sop-host/sop/host/internal/task"
)

// patches remember what was proposed.
type patches struct {
	got     []*task.Proposal
	refusal error // of every check
}

// Check implements [task.Proposals].
func (p *patches) Check(context.Context, *task.Proposal) error { return p.refusal }

// Propose implements [task.Proposals].
func (p *patches) Propose(_ context.Context, proposal *task.Proposal) (string, error) {
	p.got = append(p.got, proposal)
	return "patch-1", nil
}

func sumOf(text string) string {
	hash := sha256.Sum256([]byte(text))
	return hex.EncodeToString(hash[:])
}

// submitting is a service on a workspace with a few files, and a task that "a"
// holds.
func submitting(t *testing.T) (*bench, *task.Service, *patches, *task.Task) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"a.txt": "old\n", "d/b.sh": "#!/bin/sh\n", ".git/config": "[core]\n"} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "a.txt", "dirlink": "d", "out": "/etc"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	b, kept := newBench(t, task.Settings{}), &patches{}
	s := task.NewService(b.db.Tasks(), task.Options{Trees: tree(dir), Now: b.now, Proposals: kept})
	_, err := s.Create(t.Context(), task.New{
		Kind: task.KindManual, Title: "t", Workspace: "w", By: "me", Spec: task.Spec{Protected: []string{"d/keep/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	held, err := s.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: "a"})
	if err != nil {
		t.Fatal(err)
	}
	return b, s, kept, held
}

func TestSubmit(t *testing.T) {
	_, s, kept, held := submitting(t)
	got, err := s.Submit(t.Context(), held.Hold(), task.Submission{Explanation: "because", Files: []task.File{
		{Path: "a.txt", Op: task.OpModify, Content: []byte("new\n"), OldSHA256: sumOf("old\n")},
		{Path: "new/c.txt", Op: task.OpPut, Content: []byte("c")},
		{Path: "d/b.sh", Op: task.OpChmod, Mode: 0o755},
		{Path: "link", Op: task.OpDelete},
		{Path: "d/to", Op: task.OpSymlink, Target: "../a.txt"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got.State != task.StateProposed || got.Patch != "patch-1" || got.Holder != "" {
		t.Errorf("%+v", got)
	}
	p := kept.got[0]
	if p.Task != held.ID || p.Fence != held.Fence || p.Proposer != "a" || p.Approval != task.ApprovalOne || len(p.Changes) != 5 {
		t.Fatalf("%+v", p)
	}
	for i, want := range []task.ProposedChange{
		{Mode: 0o600, OldMode: 0o600, SHA256: sumOf("new\n"), OldSHA256: sumOf("old\n")},
		{Mode: 0o644, SHA256: sumOf("c")},
		{Mode: 0o755, OldMode: 0o600, SHA256: sumOf("#!/bin/sh\n"), OldSHA256: sumOf("#!/bin/sh\n")},
		{OldMode: 0o777, OldSHA256: sumOf("a.txt")},
		{Mode: 0o644, SHA256: sumOf("../a.txt")},
	} {
		c := p.Changes[i]
		if c.Mode != want.Mode || c.OldMode != want.OldMode || c.SHA256 != want.SHA256 || c.OldSHA256 != want.OldSHA256 {
			t.Errorf("%s: %+v, want %+v", c.Path, c, want)
		}
	}
}

// What changes its type goes and comes: nothing could be integrated otherwise.
func TestSubmitAnotherType(t *testing.T) {
	_, s, kept, held := submitting(t)
	_, err := s.Submit(t.Context(), held.Hold(), task.Submission{Files: []task.File{
		{Path: "link", Op: task.OpPut, Content: []byte("new\n"), OldSHA256: sumOf("a.txt")},
		{Path: "dirlink", Op: task.OpModify, Content: []byte("new\n"), Mode: 0o600},
		{Path: "out", Op: task.OpSymlink, Target: "a.txt"},
		{Path: "d/b.sh", Op: task.OpSymlink, Target: "../a.txt"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []task.ProposedChange{
		{Path: "link", Op: task.OpDelete, OldMode: 0o777, OldSHA256: sumOf("a.txt")},
		{Path: "link", Op: task.OpAdd, Mode: 0o644, SHA256: sumOf("new\n"), Content: []byte("new\n")},
		{Path: "dirlink", Op: task.OpDelete, OldMode: 0o777, OldSHA256: sumOf("d")},
		{Path: "dirlink", Op: task.OpAdd, Mode: 0o600, SHA256: sumOf("new\n"), Content: []byte("new\n")},
		{Path: "out", Op: task.OpSymlink, Mode: 0o777, OldMode: 0o777, SHA256: sumOf("a.txt"), OldSHA256: sumOf("/etc"), Target: "a.txt"},
		{Path: "d/b.sh", Op: task.OpDelete, OldMode: 0o600, OldSHA256: sumOf("#!/bin/sh\n")},
		{Path: "d/b.sh", Op: task.OpSymlink, Mode: 0o644, SHA256: sumOf("../a.txt"), Target: "../a.txt"},
	}
	if diff := cmp.Diff(want, kept.got[0].Changes); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestSubmitRefuses(t *testing.T) {
	b, s, kept, held := submitting(t)
	one := func(f task.File) task.Submission { return task.Submission{Files: []task.File{f}} }
	for name, tt := range map[string]struct {
		sub    task.Submission
		reason string
	}{
		"nothing":      {task.Submission{}, task.ReasonSubmission},
		"traversal":    {one(task.File{Path: "../x", Op: task.OpAdd}), task.ReasonSubmission},
		"absolute":     {one(task.File{Path: "/x", Op: task.OpAdd}), task.ReasonSubmission},
		"root":         {one(task.File{Path: ".", Op: task.OpDelete}), task.ReasonSubmission},
		"newline":      {one(task.File{Path: "a\nb", Op: task.OpAdd}), task.ReasonSubmission},
		"op":           {one(task.File{Path: "x", Op: "rename"}), task.ReasonSubmission},
		"setuid":       {one(task.File{Path: "x", Op: task.OpAdd, Mode: 0o4755}), task.ReasonSubmission},
		"there":        {one(task.File{Path: "a.txt", Op: task.OpAdd}), task.ReasonSubmission},
		"not there":    {one(task.File{Path: "x", Op: task.OpModify}), task.ReasonSubmission},
		"directory":    {one(task.File{Path: "d", Op: task.OpDelete}), task.ReasonSubmission},
		"through link": {one(task.File{Path: "dirlink/x", Op: task.OpAdd}), task.ReasonSubmission},
		"out by link":  {one(task.File{Path: "out/x", Op: task.OpAdd}), task.ReasonSubmission},
		"under a file": {one(task.File{Path: "a.txt/x", Op: task.OpAdd}), ""},
		"link nowhere": {one(task.File{Path: "x", Op: task.OpSymlink, Target: "a\x00b"}), task.ReasonSubmission},
		"mode of link": {one(task.File{Path: "link", Op: task.OpChmod, Mode: 0o600}), task.ReasonSubmission},
		"twice":        {task.Submission{Files: []task.File{{Path: "x", Op: task.OpAdd}, {Path: "x", Op: task.OpAdd}}}, task.ReasonSubmission},
		"protected":    {one(task.File{Path: "d/keep/x", Op: task.OpAdd}), task.ReasonSubmission},
		"base":         {one(task.File{Path: "a.txt", Op: task.OpModify, OldSHA256: sumOf("older")}), task.ReasonBaseMoved},
		"long name":    {one(task.File{Path: "d/" + strings.Repeat("x", 256), Op: task.OpAdd}), task.ReasonSubmission},
		"no hash":      {one(task.File{Path: "a.txt", Op: task.OpDelete, OldSHA256: "zz"}), task.ReasonSubmission},
		"no change":    {one(task.File{Path: "a.txt", Op: task.OpPut, Content: []byte("old\n")}), task.ReasonSubmission},
		"base gone":    {one(task.File{Path: "x", Op: task.OpModify, OldSHA256: sumOf("older")}), task.ReasonBaseMoved},
	} {
		if _, err := s.Submit(t.Context(), held.Hold(), tt.sub); err == nil || tt.reason != "" && reason(err) != tt.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := one(task.File{Path: "x", Op: task.OpAdd})
	if err := s.CheckSubmit(t.Context(), held.Hold(), good); err != nil {
		t.Error(err)
	}
	kept.refusal = errors.New("no patch may change it")
	if err := s.CheckSubmit(t.Context(), held.Hold(), good); !errors.Is(err, kept.refusal) {
		t.Errorf("checked: %v", err)
	}
	other := held.Hold()
	other.By = "other"
	if err := s.CheckSubmit(t.Context(), other, good); reason(err) != task.ReasonFence || !strings.Contains(err.Error(), "not by other") {
		t.Errorf("of somebody else: %v", err)
	}
	b.pass(time.Hour)
	if _, err := s.Submit(t.Context(), held.Hold(), good); reason(err) != task.ReasonFence {
		t.Errorf("after the lease: %v", err)
	}
	if len(kept.got) > 0 {
		t.Errorf("proposed %+v", kept.got)
	}
}
