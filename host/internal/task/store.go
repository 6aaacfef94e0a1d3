package task

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// Store keeps tasks and their history. Package storetest holds what every
// implementation must do. A task that a Store returns belongs to the caller. A
// reference that names no task is [ErrNotFound], one that names several is
// [ErrAmbiguous]. All methods are safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction, alone among writers. What fn did is
	// durable when Update returns nil, and undone when fn returns an error or
	// panics. fn uses nothing of the Store but tx, on one goroutine.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Get returns the task that ref names, by its id or a beginning of it that no
	// other shares, with its history.
	Get(ctx context.Context, ref string) (*Task, error)
	// List returns one page: pinned tasks first, then by priority.
	List(ctx context.Context, filter Filter) (Page, error)
	// Counts returns how many tasks there are.
	Counts(ctx context.Context) ([]Count, error)
	// NextDue returns when the first task that waits for the stage is due; false:
	// none waits.
	NextDue(ctx context.Context, stage Stage) (time.Time, bool, error)
	// NextLost returns when the first lease ends; false: nothing is held.
	NextLost(ctx context.Context) (time.Time, bool, error)
	// Gaps returns gaps by their ids, in no order; those that there are none of
	// are left out.
	Gaps(ctx context.Context, ids []string) ([]Gap, error)
	// Untasked calls fn for each gap of a workspace that asks for something and
	// that no task names but those that are done, in the order of rule and place.
	// Messages are clipped, and evidence and remedy left out. An error of fn ends it
	// and is returned.
	Untasked(ctx context.Context, workspace string, fn func(Gap) error) error
}

// Tx is a write transaction of a [Store].
type Tx interface {
	// Get is as in Store, without the history.
	Get(ctx context.Context, ref string) (*Task, error)
	// Gaps is as in Store.
	Gaps(ctx context.Context, ids []string) ([]Gap, error)
	// Take claims the first task that passes and returns it as it is then; nil:
	// there is none, and nothing was changed. It is one conditional statement.
	Take(ctx context.Context, c Candidates, claim Claim) (*Task, error)
	// Renew sets when the lease of a holding ends, and returns the task; nil: it is
	// not held so. It is one conditional statement.
	Renew(ctx context.Context, h Hold, at time.Time) (*Task, error)
	// Lost returns held tasks, at most limit, whose lease has ended at a time.
	Lost(ctx context.Context, at time.Time, limit int) ([]*Task, error)
	// HeldBy returns what somebody holds.
	HeldBy(ctx context.Context, by string) ([]*Task, error)
	// Loads returns how many tasks of each workspace and sandbox are held for
	// generation.
	Loads(ctx context.Context) ([]Load, error)
	// Blocked returns tasks, at most limit, that are blocked and depend on the
	// task; empty: all that are blocked.
	Blocked(ctx context.Context, on string, limit int) ([]*Task, error)
	// Undone returns those of the ids that are not of a task that is done.
	Undone(ctx context.Context, ids []string) ([]string, error)
	// Unclosed returns the task with the key that is not closed, or nil.
	Unclosed(ctx context.Context, key string) (*Task, error)
	// Overtaken returns tasks of a workspace, at most limit, whose gaps are all
	// resolved or suppressed: those that may become done and are not being
	// integrated or rolled back.
	Overtaken(ctx context.Context, workspace string, limit int) ([]*Task, error)
	// CountOpen returns how many tasks of a workspace that were made from gaps are
	// open.
	CountOpen(ctx context.Context, workspace string) (int, error)
	// Backlog returns the most urgent tasks of the backlog that a rule or a sandbox
	// plugin is for, at
	// most limit.
	Backlog(ctx context.Context, workspace string, limit int) ([]*Task, error)
	// Waiting returns tasks that wait to be generated for, or will, by id after the
	// one given, at most limit.
	Waiting(ctx context.Context, workspace, after string, limit int) ([]*Task, error)
	// Put inserts or replaces tasks by ID and records changes. All changes of
	// tasks pass here, in the transaction of what they describe.
	Put(ctx context.Context, tasks []*Task, changes []Change) error
	// MoveGaps takes gaps to a state, as far as their own states let them. What is
	// resolved or suppressed stays.
	MoveGaps(ctx context.Context, ids []string, to, by, why string, at time.Time) error
}

// Candidates say which tasks a claim may take. Full workspaces and sandboxes are
// passed over.
type Candidates struct {
	Stage     Stage
	ID        string // empty: any
	Workspace string // empty: any
	// Routed leaves only tasks that a sandbox plugin is named for.
	Routed         bool
	FullWorkspaces []string
	FullSandboxes  []string
	At             time.Time // it is due at
}

// Claim is what Take makes of a task.
type Claim struct {
	By    string
	Lease time.Duration
	Until time.Time
	Why   string
}

// Load is how many tasks are held for generation.
type Load struct {
	Workspace, Sandbox string
	Tasks              int
}

// Filter says which tasks [Store.List] returns. The zero value is all of them.
type Filter struct {
	Workspace string
	States    []State
	Kinds     []Kind
	Holder    string
	Gap       string       // id of one of its gaps
	At        time.Time    // priorities are as of then
	Where     *filter.Node // of ListFields; nil: all
	Order     []filter.Key // of ListFields; nil: the usual one
	Limit     int          // of a page; 0 or too many: [MaxPage]
	Token     string       // Page.Next of the page before
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Tasks []*Task
	Next  string // names the next page; empty: this is the last
	Total int64  // on all pages; on the first page only
}

// Count is how many tasks of a workspace are in a state.
type Count struct {
	Workspace string
	Kind      Kind
	State     State
	Tasks     int
}
