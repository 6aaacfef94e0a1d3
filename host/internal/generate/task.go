package generate

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/scaffold"
)

// Contract is the version of the generator contract that runs are of.
const Contract = "sop.generator/v1"

// maxTask bounds a task, in bytes.
const maxTask = 4 << 20

// task is what the host itself goes by of docs/generator-task.schema.json.
type task struct {
	Contract  string   `json:"contract"`
	ID        string   `json:"id"`
	Goal      string   `json:"goal"`
	Scope     []string `json:"scope"`
	Protected []string `json:"protected"`
	Budget    struct {
		WallSeconds float64 `json:"wall_seconds"`
	} `json:"budget"`
}

func readTask(text []byte) (*task, error) {
	bad := func(format string, args ...any) error {
		return sdk.Errorf(codes.InvalidArgument, "BAD_TASK", format, args...).
			WithRemedy("send a task that conforms to docs/generator-task.schema.json")
	}
	if len(text) > maxTask {
		return nil, bad("the task has %d bytes, over the limit of %d", len(text), maxTask)
	}
	t := new(task)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, bad("the task cannot be read: %w", err)
	}
	switch {
	case t.Contract != Contract:
		return nil, bad("the task is of the contract %q, not %q", t.Contract, Contract)
	case t.ID == "" || t.Goal == "":
		return nil, bad("the task lacks its id or its goal")
	case t.Budget.WallSeconds < 0:
		return nil, bad("the budget of the task is negative")
	}
	return t, nil
}

// wall is how long a run may take: the profile's limit, or less if the budget
// is less.
func (t *task) wall(limit time.Duration) time.Duration {
	budget := time.Duration(t.Budget.WallSeconds * float64(time.Second))
	if budget > 0 && budget < limit {
		return budget
	}
	return limit
}

// judge rejects changes that the task does not permit, whatever the generator
// thought of them. A directory is permitted for the sake of what is in it.
func (t *task) judge(set *sandbox.ChangeSet) {
	var permitted []string
	for i := range set.Changes {
		if c := &set.Changes[i]; c.Op != sandbox.OpMkdir && t.forbids(c.Path) == "" {
			permitted = append(permitted, c.Path)
		}
	}
	for i := range set.Changes {
		c := &set.Changes[i]
		why := t.forbids(c.Path)
		if why == "" || c.Op == sandbox.OpMkdir && leadsToOne(c.Path, permitted) {
			continue
		}
		if len(set.Rejected) < maxRejected {
			set.Rejected = append(set.Rejected, sandbox.Rejection{Path: c.Path, Why: why})
		}
	}
}

func leadsToOne(dir string, paths []string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return strings.HasPrefix(path, dir+"/") })
}

// maxRejected bounds the list of what is wrong: somebody has to read it.
const maxRejected = 100

func (t *task) forbids(path string) string {
	for _, pattern := range t.Protected {
		if scaffold.CoversPath(pattern, path) {
			return "the task protects it"
		}
	}
	if len(t.Scope) == 0 {
		return ""
	}
	for _, pattern := range t.Scope {
		if scaffold.CoversPath(pattern, path) {
			return ""
		}
	}
	return "it is out of the task's scope"
}
