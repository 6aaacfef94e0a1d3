package agent

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

// Store keeps agents and their keys. Package storetest holds what every
// implementation must do. An agent that a Store returns belongs to the caller.
// All methods are safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction, alone among writers. What fn did is
	// durable when Update returns nil, and undone when fn returns an error or
	// panics. fn uses nothing of the Store but tx, on one goroutine.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Find returns the agent that has the key with the accessor, or nil.
	Find(ctx context.Context, accessor string) (*Agent, error)
	// Get returns the agent of the name, or [ErrNotFound].
	Get(ctx context.Context, name string) (*Agent, error)
	// List returns one page, by name unless the filter says otherwise.
	List(ctx context.Context, filter Filter) (Page, error)
	// Ends returns the ends of all agents that have one, by name.
	Ends(ctx context.Context) ([]End, error)
	// Touch raises the time of last use of agents, by name. It is no change and
	// makes no record.
	Touch(ctx context.Context, used map[string]time.Time) error
}

// Tx is a write transaction of a [Store].
type Tx interface {
	// Get is as in Store.
	Get(ctx context.Context, name string) (*Agent, error)
	// Put inserts or replaces an agent with its keys, except for the time of its
	// last use, and records the change in the audit log.
	Put(ctx context.Context, a *Agent, change Change) error
}

// Filter says which agents [Store.List] returns. The zero value is all of them.
type Filter struct {
	States []State
	Trust  Trust
	Group  string
	Where  *filter.Node // of ListFields; nil: all
	Order  []filter.Key // of ListFields; nil: by name
	At     time.Time    // states are as of then
	Limit  int          // of a page; 0 or too many: [MaxPage]
	Token  string       // Page.Next of the page before
}

// Check returns an error where the filter names a state or a trust that is none.
func (f *Filter) Check() error {
	for _, s := range f.States {
		if !slices.Contains(States(), s) {
			return invalid("states", "there is no such state of an agent").WithRemedy("the states are %v", States())
		}
	}
	if f.Trust != "" && !slices.Contains(Trusts(), f.Trust) {
		return invalid("trust", "there is no such trust").WithRemedy("an agent is %s or %s", System, Exterior)
	}
	return nil
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Agents []*Agent
	Next   string // names the next page; empty: this is the last
	// Total is how many there are on all pages; on the first page only.
	Total int64
}

// ErrNotFound is the cause where an agent does not exist, for errors.Is.
var ErrNotFound = &sdk.Error{Code: codes.NotFound, Reason: "AGENT_NOT_FOUND", Message: "no such agent"}

// NotFound returns the error for a name that no agent has.
func NotFound(who string) error {
	if !name.MatchString(who) {
		who = "of that name"
	}
	return sdk.Errorf(codes.NotFound, ErrNotFound.Reason, "agent %s: %w", who, ErrNotFound).
		WithRemedy("list those that are enrolled with: sop agent list; one that the configuration maps is removed there")
}
