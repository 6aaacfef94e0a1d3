package startup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/task"
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

// changeSet is what is submitted, in the order in which it can be made, with the
// directories that it needs.
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
	slices.SortFunc(set.Changes, func(a, b sandbox.Change) int {
		if a.Op == sandbox.OpDelete && b.Op == sandbox.OpDelete {
			return strings.Compare(b.Path, a.Path)
		}
		return cmp.Or(cmp.Compare(order(a.Op), order(b.Op)), strings.Compare(a.Path, b.Path))
	})
	return set, nil
}

// order is that in which changes are made: what goes, directories, the rest.
func order(op sandbox.Op) int {
	switch op {
	case sandbox.OpDelete:
		return 0
	case sandbox.OpMkdir:
		return 1
	}
	return 2
}

// contentOf opens what is submitted.
func contentOf(changes []task.ProposedChange) sandbox.Content {
	byPath := make(map[string][]byte, len(changes))
	for i := range changes {
		byPath[changes[i].Path] = changes[i].Content
	}
	return func(c sandbox.Change) (io.ReadCloser, error) {
		content, there := byPath[c.Path]
		if !there {
			return nil, fmt.Errorf("%s was not submitted", c.Path)
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
}
