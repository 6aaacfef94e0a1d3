package patch

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// Patch is a proposed change. One that a Service returns belongs to the caller.
type Patch struct {
	ID        string // UUIDv7
	Task      string
	Workspace string
	Title     string
	Proposer  string             // the agent that proposes it
	Hash      string             // of Set; see [Hash]
	Base      string             // hash of what it replaces
	Set       *sandbox.ChangeSet // nil in lists
	Files     int                // changes that are not to directories
	Bytes     int64              // of new content
	Risks     []Risk             // sorted

	Evidence json.RawMessage // of the run that made it; nil in lists
	Verdict  json.RawMessage // of the verification; nil in lists
	Passed   bool            // every verify step passed, on exactly this content

	Rule      Rule // how many have to approve it
	Approvals []Approval
	State     State
	Reason    string // why it is in that state

	Supersedes   string // ID of the patch that it takes the place of
	SupersededBy string

	Token  string // accessor of the token that it was last integrated or taken back under
	Backup string // of what was replaced; as the backup names it
	Done   Done

	CreatedAt    time.Time
	ChangedAt    time.Time
	IntegratedAt time.Time // zero: it is not
	Dropped      bool      // its content is no longer kept

	// Version counts changes, so that the later of two copies is known.
	Version int64
	// History holds what became of it, oldest first. Only Get fills it.
	History []Change
}

// Done says where an integrated patch went.
type Done struct {
	Backup string   `json:"-"`
	Mode   string   `json:"mode,omitempty"` // "worktree", "branch", "patch_file"
	Commit string   `json:"commit,omitempty"`
	Branch string   `json:"branch,omitempty"`
	File   string   `json:"file,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// An Approval is one agent's consent to exactly one content.
type Approval struct {
	By   string    `json:"by"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
	Why  string    `json:"why,omitempty"`
}

// Rule says how many have to approve a patch.
type Rule string

// The rules. Auto approves what has passed verification and bears no risk; with a
// risk, one has to look.
const (
	Auto Rule = "auto"
	One  Rule = "one"
	Two  Rule = "two"
)

// Rules returns all rules.
func Rules() []Rule { return []Rule{Auto, One, Two} }

// stricter is the one of two rules that asks for more.
func stricter(a, b Rule) Rule {
	if slices.Index(Rules(), b) > slices.Index(Rules(), a) {
		return b
	}
	return a
}

// Needed is how many agents have to approve the patch.
func (p *Patch) Needed() int {
	switch {
	case p.Rule == Two:
		return 2
	case p.Rule == Auto && len(p.Risks) == 0:
		return 0
	}
	return 1
}

// Verified says that every verify step passed, on exactly this content.
func (p *Patch) Verified() bool { return p.Passed }

// Approved says that as many have approved it as its rule asks for, and that it
// has not been denied since.
func (p *Patch) Approved() bool {
	switch p.State {
	case StateApproved, StateIntegrating, StateIntegrated, StateRolledBack:
		return true
	}
	return false
}

// Paths are those that the patch changes, sorted; nil in lists.
func (p *Patch) Paths() []string {
	if p.Set == nil {
		return nil
	}
	var all []string
	for i := range p.Set.Changes {
		all = append(all, p.Set.Changes[i].Path)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (p *Patch) clone() *Patch {
	c := *p
	c.Approvals, c.Risks = slices.Clone(p.Approvals), slices.Clone(p.Risks)
	c.History = nil
	return &c
}
