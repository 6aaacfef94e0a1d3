package sandbox

import (
	"cmp"
	"fmt"
	"slices"
)

// An Op is what a change does to a path.
type Op string

// Operations. What changes its type is deleted and added.
const (
	OpAdd     Op = "add"
	OpModify  Op = "modify"
	OpDelete  Op = "delete"
	OpChmod   Op = "chmod"
	OpSymlink Op = "symlink"
	OpMkdir   Op = "mkdir"
)

// A Change is one path that differs from the workspace.
type Change struct {
	Path string `json:"path"` // with slashes, relative to the workspace
	Op   Op     `json:"op"`

	Mode   uint32 `json:"mode,omitempty"` // permissions after the change
	Size   int64  `json:"size,omitempty"` // bytes
	SHA256 string `json:"sha256,omitempty"`
	Target string `json:"target,omitempty"` // of a symlink

	// What it replaces: the hash of a file's content or of a link's target, and
	// its permissions. A directory has no hash.
	OldSHA256 string `json:"old_sha256,omitempty"`
	OldMode   uint32 `json:"old_mode,omitempty"`
	OldDir    bool   `json:"old_dir,omitempty"`

	// Flag says why the change needs an approval of its own; "" if it does not.
	Flag string `json:"flag,omitempty"`
}

// A Rejection is an entry that no change set may have.
type Rejection struct {
	Path string `json:"path"` // quoted where it is not fit to be shown
	Why  string `json:"why"`
}

// String implements fmt.Stringer.
func (r Rejection) String() string { return fmt.Sprintf("%q: %s", r.Path, r.Why) }

// A ChangeSet is what a run would change. One with Rejected entries cannot be
// applied.
type ChangeSet struct {
	Changes  []Change    `json:"changes"`
	Rejected []Rejection `json:"rejected,omitempty"`
}

// ChangeLimits bound a change set.
type ChangeLimits struct {
	Count int
	Bytes int64 // of all new content together
	Depth int
}

// DefaultChangeLimits are those of Outcome.Changes.
var DefaultChangeLimits = ChangeLimits{Count: 10_000, Bytes: 256 << 20, Depth: 64}

// maxRejections bounds the list of what is wrong: somebody has to read it.
const maxRejections = 100

func (s *ChangeSet) reject(path, why string, args ...any) {
	if len(s.Rejected) < maxRejections {
		s.Rejected = append(s.Rejected, Rejection{path, fmt.Sprintf(why, args...)})
	}
}

// sort puts changes in the order in which they can be made: what goes, the
// deepest first, then what comes.
func (s *ChangeSet) sort() {
	slices.SortStableFunc(s.Changes, func(a, b Change) int {
		if a.Op == OpDelete && b.Op == OpDelete {
			return cmp.Compare(b.Path, a.Path)
		}
		return cmp.Or(cmp.Compare(rank(a.Op), rank(b.Op)), cmp.Compare(a.Path, b.Path))
	})
}

func rank(op Op) int {
	switch op {
	case OpDelete:
		return 0
	case OpMkdir:
		return 1
	}
	return 2
}
