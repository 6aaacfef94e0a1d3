package task

import (
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/sdk/scaffold"
)

// Task is one thing to do. A task that a Service returns belongs to the caller.
type Task struct {
	ID        string // UUIDv7
	Kind      Kind
	Title     string
	Type      string   // of gap, or what the creator calls it
	Severity  string   // the highest of its gaps; empty: none
	Workspace string   // empty: none, of maintenance only
	Target    string   // path of what is to change, relative to the workspace; "." is its root
	Rule      string   // of the detector, which all its gaps are of
	Gaps      []string // ids
	// Key is what there is at most one open task for; empty: it may be doubled.
	Key string

	// Route and Sandbox are what the configuration said when it was last asked:
	// the name of the rule, and the plugin that works on the task; an empty
	// Sandbox leaves it to agents from outside.
	Route, Sandbox string

	State  State
	Before State  // the state it was in before
	Reason string // why it is in that state

	// Base is what the priority is without age; see [Task.Priority].
	Base   int
	Since  time.Time // from when on age counts: when its oldest gap was first seen
	Pinned bool      // before all that is not

	DependsOn []string // ids of tasks that must be done before
	Needs     []string // protocols that must be available: by its rule, and by [Spec.Needs]

	Attempts    int // claims for generation that were not given back
	MaxAttempts int
	// Interruptions is how often the host ended while it generated for the task:
	// no attempt, unless it goes on and on.
	Interruptions int
	DueAt         time.Time // not to be claimed before

	Holder string // who works on it; empty: nobody
	// Fence is raised by every claim. What a holder brings under an older number,
	// or when nobody holds the task, is refused.
	Fence      int64
	Lease      time.Duration
	LeaseUntil time.Time // zero: nobody holds it

	Patch    string // id of the latest patch for it
	Feedback string // why the last attempt did not do, for the next

	Spec Spec

	CreatedBy            string
	CreatedAt, ChangedAt time.Time
	// Version counts changes, so that the later of two copies is known.
	Version int64

	// History holds what became of it, oldest first; renewed leases are not in it.
	// Only [Store.Get] fills it.
	History []Change
}

// Kind is where a task comes from.
type Kind string

// The kinds of tasks.
const (
	KindGap         Kind = "gap"
	KindMaintenance Kind = "maintenance"
	KindManual      Kind = "manual"
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{KindGap, KindMaintenance, KindManual} }

// Spec is what there is to say about a task beside what its gaps and its rule
// say.
type Spec struct {
	// Path is that of the first gap: what rules look at. Empty: the target.
	Path         string   `json:"path,omitempty"`
	Goal         string   `json:"goal,omitempty"`
	Criteria     []string `json:"success_criteria,omitempty"`
	Requirements []string `json:"requirements,omitempty"`
	// Scope and Protected are patterns of [scaffold.CoversPath]: of what may change,
	// everything where there is none, and of what must not.
	Scope     []string `json:"scope,omitempty"`
	Protected []string `json:"protected,omitempty"`
	// Sandbox, Scaffold and Parameters go before those of the rule.
	Sandbox    string            `json:"sandbox,omitempty"`
	Scaffold   string            `json:"scaffold,omitempty"`
	Parameters map[string]any    `json:"parameters,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	// Needs are protocols that it was made to need, beside those of its rule.
	Needs []string `json:"needs,omitempty"`
	// Owner sees to the task where no rule is for it: "operator/NAME" or
	// "protocol/NAME"; may be empty.
	Owner string `json:"owner,omitempty"`
}

// permits refuses a path that is out of scope or protected.
func (s *Spec) permits(name string) error {
	match := func(pattern string) bool { return scaffold.CoversPath(pattern, name) }
	switch {
	case len(s.Scope) > 0 && !slices.ContainsFunc(s.Scope, match):
		return refused(name, "%q is out of the scope of the task", name).WithRemedy("it may change: %s", strings.Join(s.Scope, ", "))
	case slices.ContainsFunc(s.Protected, match):
		return refused(name, "%q is protected", name).WithRemedy("it must not change: %s", strings.Join(s.Protected, ", "))
	}
	return nil
}

// Hold names one holding of a task: who, and under which fencing number.
type Hold struct {
	ID    string
	Fence int64
	By    string
}

// Hold returns the holding as it stands.
func (t *Task) Hold() Hold { return Hold{ID: t.ID, Fence: t.Fence, By: t.Holder} }

// A point of priority is worth a day of age.
const pointTime = 24 * time.Hour

// Priority is how urgent the task is at a time: a point for each day that it has
// waited, on top of what severity and reach give it.
func (t *Task) Priority(now time.Time) int { return t.Base + int(max(0, now.Sub(t.Since))/pointTime) }

// Rank orders tasks by priority without the time: as age grows alike for all, of
// two tasks the order never changes.
func (t *Task) Rank() int64 {
	return int64(t.Base)*int64(pointTime/time.Second) - t.Since.Unix()
}

// Gap is what is known of a gap of a task.
type Gap struct {
	ID        string
	Workspace string
	Rule      string
	Type      string
	Severity  string
	Rank      int // of the severity, from 1, ascending
	Path      string
	Line      int
	Symbol    string
	Message   string
	Remedy    string
	Evidence  string
	State     string
	Live      bool // neither resolved nor suppressed
	FirstSeen time.Time
}

// Changed says, after the commit, what happened to tasks: one event for each
// transaction. It is shared by all subscribers and not to be changed.
type Changed struct {
	Tasks   []*Task // as they are after it
	Changes []Change
}

// Publisher takes the package's event, [Changed]. It must not block; *event.Bus
// is one.
type Publisher interface {
	Publish(event any)
}
