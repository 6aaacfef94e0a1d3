package integration

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// A plan is what the journal knows of one integration. What has become of it is
// said by the name of its file; see phase.
type plan struct {
	Format int       `json:"format"`
	ID     string    `json:"id"`
	Hash   string    `json:"hash"` // of the steps
	At     time.Time `json:"at"`
	Steps  []step    `json:"steps"`
	Notes  []string  `json:"notes,omitempty"`
}

const planFormat = 1

// A step is one change with the slot of the record that takes the other entry:
// the new one first, and the old one once they are exchanged.
type step struct {
	sandbox.Change
	Slot string `json:"slot,omitempty"` // "": nothing is moved
}

// A phase is how far an integration is.
type phase string

// The phases of a record, each the name of the file that holds the plan. A record
// without any of them is not yet, or no longer, one.
const (
	prepared   phase = "plan.json"   // what is staged may have been exchanged
	done       phase = "done.json"   // all is exchanged, and durable
	undoing    phase = "undo.json"   // a rollback may have taken some of it back
	rolledBack phase = "undone.json" // all is taken back, and durable
)

var phases = []phase{prepared, done, undoing, rolledBack}

// A move is what a step does to the tree.
type move int

const (
	swap   move = iota // a new entry takes the place of an old one
	create             // a new entry comes where nothing was
	take               // an old entry goes
	modes              // permissions change in place
)

func (s *step) move() move {
	switch {
	case s.Op == sandbox.OpChmod:
		return modes
	case s.Op == sandbox.OpDelete:
		return take
	case s.OldSHA256 != "":
		return swap
	}
	return create
}

// newPlan puts the changes in the order in which they can be made and undone.
func newPlan(id string, set *sandbox.ChangeSet, now time.Time) (*plan, error) {
	if len(set.Rejected) > 0 {
		return nil, refused("the change set is rejected: %v", set.Rejected[0])
	}
	if len(set.Changes) == 0 {
		return nil, refused("the change set is empty")
	}
	p := &plan{Format: planFormat, ID: id, At: now.UTC()}
	for _, c := range set.Changes {
		s := step{Change: c}
		if err := s.check(); err != nil {
			return nil, err
		}
		p.Steps = append(p.Steps, s)
		if c.Op == sandbox.OpMkdir && c.Mode&ownerAll != ownerAll {
			// It has to be open while it is filled.
			p.Steps[len(p.Steps)-1].Mode |= ownerAll
			p.Steps = append(p.Steps, step{Change: sandbox.Change{Path: c.Path, Op: sandbox.OpChmod, Mode: c.Mode, OldMode: c.Mode | ownerAll, OldDir: true}})
		}
	}
	slices.SortStableFunc(p.Steps, inOrder)
	seen := make(map[string]move)
	for i := range p.Steps {
		// A path may change twice when its type does: it goes, and something comes.
		s := &p.Steps[i]
		if was, twice := seen[s.Path]; twice && (was != take || s.move() != create) && (was != create || s.move() != modes) {
			return nil, refused("%s is changed twice", s.Path)
		}
		seen[s.Path] = s.move()
		if p.Steps[i].move() != modes {
			p.Steps[i].Slot = strconv.Itoa(i)
		}
	}
	text, err := json.Marshal(p.Steps)
	p.Hash = hashOf(string(text))
	return p, err
}

const ownerAll = 0o700

// inOrder: what goes, the deepest first; directories that come; files and links;
// permissions of directories, the deepest first, for they can close the way.
func inOrder(a, b step) int {
	if by := cmp.Compare(rank(&a), rank(&b)); by != 0 {
		return by
	}
	if rank(&a) == 0 || rank(&a) == 3 {
		return cmp.Compare(b.Path, a.Path)
	}
	return cmp.Compare(a.Path, b.Path)
}

func rank(s *step) int {
	switch {
	case s.Op == sandbox.OpDelete:
		return 0
	case s.Op == sandbox.OpMkdir:
		return 1
	case s.Op == sandbox.OpChmod && s.OldDir:
		return 3
	}
	return 2
}

var operations = []sandbox.Op{sandbox.OpAdd, sandbox.OpModify, sandbox.OpDelete, sandbox.OpChmod, sandbox.OpSymlink, sandbox.OpMkdir}

// check refuses what no change set has that the host worked out.
func (s *step) check() error {
	switch {
	case !slices.Contains(operations, s.Op):
		return refused("%q: there is no operation %q", s.Path, s.Op)
	case !filepath.IsLocal(s.Path) || path.Clean(s.Path) != s.Path || s.Path == "." || strings.ContainsRune(s.Path, 0):
		return refused("%q is no path in the workspace", s.Path)
	case s.Mode&^0o777 != 0 || s.OldMode&^0o777 != 0:
		return refused("%s: only permissions can be set", s.Path)
	case s.Op == sandbox.OpSymlink && hashOf(s.Target) != s.SHA256:
		return refused("%s: the target of the link is not the one that was hashed", s.Path)
	case s.Op == sandbox.OpAdd && s.OldSHA256 != "", s.Op == sandbox.OpModify && s.OldSHA256 == "",
		s.Op == sandbox.OpMkdir && s.OldSHA256 != "", s.Op == sandbox.OpDelete && s.OldSHA256 == "" && !s.OldDir:
		return refused("%s: %s does not go with what it replaces", s.Path, s.Op)
	}
	for part := range strings.SplitSeq(s.Path, "/") {
		name, _, _ := strings.Cut(part, ":")
		name = strings.ToLower(strings.TrimRight(name, " ."))
		if name == ".git" || name == "git~1" || name == PrivateDir {
			return refused("%s: %s is not for patches", s.Path, part)
		}
	}
	return nil
}

// paths are those that the plan changes, each once, sorted.
func (p *plan) paths() []string {
	var all []string
	for i := range p.Steps {
		all = append(all, p.Steps[i].Path)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// dirs are the directories in which entries come and go, and that there will be
// afterwards or were before.
func (p *plan) dirs() []string {
	var all []string
	for i := range p.Steps {
		all = append(all, path.Dir(p.Steps[i].Path))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

const maxPlan = 64 << 20 // bytes

// A record is the directory of one integration.
type record struct {
	tree
	id string
}

// read returns the plan and its phase; nil and "" where there is none.
func (r record) read() (*plan, phase, error) {
	for _, ph := range phases {
		file, err := r.open(string(ph), unix.O_RDONLY)
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		text, err := io.ReadAll(io.LimitReader(file, maxPlan))
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, "", err
		}
		p := new(plan)
		if err := json.Unmarshal(text, p); err != nil || p.Format != planFormat || p.ID != r.id {
			return nil, "", conflictf(r.id, nil, "its plan cannot be read (format %d, of %q): %v", p.Format, p.ID, err)
		}
		for i := range p.Steps {
			if err := p.Steps[i].check(); err != nil {
				return nil, "", conflictf(r.id, nil, "its plan is not one of ours: %v", err)
			}
			if s := p.Steps[i].Slot; s != "" && strings.Trim(s, "0123456789") != "" {
				return nil, "", conflictf(r.id, nil, "its plan is not one of ours: slot %q", s)
			}
		}
		return p, ph, nil
	}
	return nil, "", nil
}

// is says whether the record is in a phase, without reading the plan.
func (r record) is(ph phase) bool {
	return unix.Faccessat(r.fd(), string(ph), unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
}

const unfinished = "plan.tmp"

// write makes the plan durable, and everything in the record with it.
func (r record) write(p *plan) (err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if len(text) > maxPlan {
		return refused("the plan is longer than %d bytes", maxPlan)
	}
	fd, err := unix.Openat(r.fd(), unfinished, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	file := os.NewFile(uintptr(fd), unfinished)
	crash("plan created")
	_, err = file.Write(text)
	crash("plan written")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	crash("plan synced")
	return r.rename(unfinished, string(prepared))
}

// turn takes the record from one phase to the next, durably.
func (r record) turn(from, to phase) error { return r.rename(string(from), string(to)) }

func (r record) rename(from, to string) error {
	if err := unix.Renameat(r.fd(), from, r.fd(), to); err != nil {
		return fmt.Errorf("turn %s into %s: %w", from, to, err)
	}
	crash("renamed to " + to)
	err := r.sync()
	crash("synced as " + to)
	return err
}
