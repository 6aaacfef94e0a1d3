package startup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

// proposals make patches of what agents submit. It implements [task.Proposals].
type proposals struct{ host *host }

// submissionMode is the mode of directories that a submission needs.
const submissionMode = 0o755

// Propose implements [task.Proposals].
func (p proposals) Propose(ctx context.Context, in *task.Proposal) (id string, err error) {
	root, err := trees(p).Root(in.Workspace)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	evidence, err := json.Marshal(map[string]any{"submitted_by": in.Proposer, "fence": in.Fence, "explanation": in.Explanation})
	if err != nil {
		return "", err
	}
	set, err := changeSet(root, in.Changes)
	if err != nil {
		return "", err
	}
	made, err := p.host.patches.Propose(ctx, patch.Proposal{
		Task: in.Task, Workspace: in.Workspace, Title: in.Title, Proposer: in.Proposer, Set: set, Content: contentOf(in.Changes),
		Old: patch.OldFrom(root), Evidence: evidence, Rule: patch.Rule(in.Approval), Key: fmt.Sprintf("task/%s/%d", in.Task, in.Fence),
	})
	if err != nil {
		return "", err
	}
	return made.ID, nil
}

// Check implements [task.Proposals].
func (p proposals) Check(_ context.Context, in *task.Proposal) (err error) {
	root, err := trees(p).Root(in.Workspace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	_, err = changeSet(root, in.Changes)
	return err
}

// changeSet is what is submitted, with the directories that it needs. It holds to
// what change sets of runs hold to.
func changeSet(root *os.Root, changes []task.ProposedChange) (*sandbox.ChangeSet, error) {
	set := &sandbox.ChangeSet{}
	dirs := make(map[string]bool)
	for i := range changes {
		c := &changes[i]
		set.Changes = append(set.Changes, sandbox.Change{
			Path: c.Path, Op: sandbox.Op(c.Op), Mode: c.Mode, Size: int64(len(c.Content)), SHA256: c.SHA256, Target: c.Target,
			OldSHA256: c.OldSHA256, OldMode: c.OldMode,
		})
		for dir := path.Dir(c.Path); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
			if _, err := root.Lstat(dir); err == nil {
				break
			} else if !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			dirs[dir] = true
			set.Changes = append(set.Changes, sandbox.Change{Path: dir, Op: sandbox.OpMkdir, Mode: submissionMode})
		}
	}
	if err := set.Judge(root); err != nil {
		return nil, err
	}
	if len(set.Rejected) > 0 {
		r := set.Rejected[0]
		return nil, sdk.Errorf(codes.InvalidArgument, task.ReasonSubmission, "%s", r).WithField(r.Path, "").WithRemedy("submit the change without it")
	}
	return set, nil
}

// contentOf opens what is submitted.
func contentOf(changes []task.ProposedChange) sandbox.Content {
	byPath := make(map[string][]byte, len(changes))
	for i := range changes {
		if c := &changes[i]; c.Op != task.OpDelete {
			byPath[c.Path] = c.Content
		}
	}
	return func(c sandbox.Change) (io.ReadCloser, error) {
		content, there := byPath[c.Path]
		if !there {
			return nil, fmt.Errorf("%s was not submitted", c.Path)
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
}
