package flow

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/task"
)

// Tasks are what is to be done; *task.Service is one.
type Tasks interface {
	Claim(ctx context.Context, r task.ClaimRequest) (*task.Task, error)
	Heartbeat(ctx context.Context, h task.Hold) (task.Beat, error)
	Advance(ctx context.Context, h task.Hold, s task.Step) (*task.Task, error)
	Fail(ctx context.Context, h task.Hold, f task.Failure) (*task.Task, error)
	Postpone(ctx context.Context, h task.Hold, why string, after time.Duration) (*task.Task, error)
	Move(ctx context.Context, ref string, from task.State, by string, s task.Step) (*task.Task, error)
	Integrated(ctx context.Context, h task.Hold) (*task.Task, error)
	GapsLive(ctx context.Context, ref string) ([]string, error)
	Get(ctx context.Context, ref string) (*task.Task, error)
	List(ctx context.Context, f task.Filter) (task.Page, error)
	NextDue(ctx context.Context, stage task.Stage) (time.Time, bool, error)
	Package(ctx context.Context, t *task.Task) (*task.Package, error)
	Route(t *task.Task) task.Route
}

// Patches are the changes that were proposed: *patch.Service, with what takes them
// into workspaces as these are configured, and out again.
type Patches interface {
	Propose(ctx context.Context, p patch.Proposal) (*patch.Patch, error)
	Get(ctx context.Context, ref string) (*patch.Patch, error)
	List(ctx context.Context, f patch.Filter) (patch.Page, error)
	Content(p *patch.Patch) sandbox.Content
	StartVerify(ctx context.Context, id, by string) (*patch.Patch, error)
	Verified(ctx context.Context, id, hash, by string, v patch.Verdict) (*patch.Patch, error)
	AutoApprove(ctx context.Context, id, rule string) (*patch.Patch, bool, error)
	VerifyAgain(ctx context.Context, id, by, why string) (*patch.Patch, error)
	Tighten(ctx context.Context, id, by string, rule patch.Rule) (*patch.Patch, error)
	Withdraw(ctx context.Context, id, by string) (*patch.Patch, error)
	Stands(ctx context.Context, id string, rule patch.Rule) error
	Reject(ctx context.Context, id, by, why string) (*patch.Patch, error)
	Begin(ctx context.Context, id, hash, by, token string) (*patch.Patch, error)
	Integrated(ctx context.Context, id, by string, d patch.Done) (*patch.Patch, error)
	Undone(ctx context.Context, id, by, why string) (*patch.Patch, error)
	Rebase(ctx context.Context, id string, root *os.Root, by string) (*patch.Patch, error)
	// Request is how a patch is integrated; whoever does adds Before and trailers.
	Request(p *patch.Patch) (integration.Request, error)
	// Rollback takes back what was integrated, and says so of the patch.
	Rollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, patch.Reversal, error)
}

// Integrator changes workspaces; *integration.Integrator is one.
type Integrator interface {
	Integrate(ctx context.Context, r integration.Request) (*integration.Result, error)
	Recover(ctx context.Context, root string) ([]integration.Recovered, error)
	State(ctx context.Context, root, id string) (integration.RecordState, error)
}

// Backups keep what is about to be replaced; *backup.Service is one.
type Backups interface {
	Save(ctx context.Context, r backup.SaveRequest) (*backup.Snapshot, error)
	ForPatch(ctx context.Context, patch string) ([]*backup.Snapshot, error)
}

// Workspaces are the governed trees.
type Workspaces interface {
	// Root is where a workspace is, absolute.
	Root(name string) (string, error)
	// Rescan returns when a scan that began after the call has ended, and covered
	// what there was to cover.
	Rescan(ctx context.Context, name string) error
}

// Records are the audit log, where what the engine does is said.
type Records interface {
	// Integrating returns the last record that says that a patch is being integrated,
	// in the form in which commits name it.
	Integrating(ctx context.Context, patch string) (string, error)
}

// Tokens are issued for what the engine lets others do, and end with it.
type Tokens interface {
	// Run issues a todo token for one run of a sandbox plugin; end revokes it.
	Run(ctx context.Context, plugin string, t *task.Task, life time.Duration) (secret string, end func(), err error)
	// Integration issues an integration token for a patch, has policy decide
	// under it, and consumes it. It returns its accessor.
	Integration(ctx context.Context, p *patch.Patch) (accessor string, err error)
	// Rollback does so for taking the patch back.
	Rollback(ctx context.Context, p *patch.Patch) (accessor string, err error)
}

// An Outcome is how a run ended.
type Outcome string

// The outcomes of runs.
const (
	Changed   Outcome = "changed"
	Unchanged Outcome = "unchanged"    // there is nothing to do
	GaveUp    Outcome = "gave_up"      // it takes a person
	NoBudget  Outcome = "budget_spent" // time, money or model tokens
	BadTask   Outcome = "bad_task"     // the generator cannot read it
	Crashed   Outcome = "crashed"      // anything else
)

// RunRequest asks for one run of a sandbox plugin.
type RunRequest struct {
	Plugin  string // its name, such as "scaffold"
	ID      string // of the run
	Root    string // of the workspace
	Package []byte // JSON of the task package
	Token   string // secret
	Limit   time.Duration
}

// A Run is over when it is returned. Close it.
type Run struct {
	Outcome  Outcome
	Why      string // for the reviewer
	Set      *sandbox.ChangeSet
	Content  sandbox.Content // until Close
	Diff     string
	Evidence json.RawMessage
	Close    func() error
}

// Generator makes changes in sandboxes.
type Generator interface {
	Run(ctx context.Context, r RunRequest, progress func(phase, message string)) (*Run, error)
}

// A Check asks for the verification of a patch.
type Check struct {
	Task    *task.Task
	Patch   *patch.Patch
	Content sandbox.Content
	Root    string
	Steps   []string // names; empty: all that the workspace has
}

// Made is what a patch has made, before that is settled.
type Made struct {
	Check        // Root is where it is; Steps may be none
	There   bool // the patch is in Root; otherwise it is made in a view of that
	Confirm bool // no scan will: the detectors are to say that the gaps are gone
}

// A Confirmation is what was found about an outcome.
type Confirmation struct {
	patch.Verdict
	By []string // the steps that have passed
}

// Verifier tries patches out. An error says that they could not be tried, not
// that they failed; sandbox.ErrConflict says that the workspace has moved on.
type Verifier interface {
	Verify(ctx context.Context, c Check, progress func(phase, message string)) (patch.Verdict, error)
	// Missing names those of the steps, as Check has them, that are asked for now and
	// that the verdict of a patch does not have, or not in their present form.
	Missing(p *patch.Patch, steps []string) ([]string, error)
	// PostCheck looks at what was changed, where it is now. An error says that this
	// could not be done.
	PostCheck(ctx context.Context, c Made) (Confirmation, error)
}
