package integration

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// Options of an Integrator. The zero value is ready for use.
type Options struct {
	Git string           // the program; "": the one in PATH
	Now func() time.Time // nil: the clock
}

// An Integrator changes workspaces, each by one at a time. It is safe for
// concurrent use.
type Integrator struct {
	opt   Options
	mu    sync.Mutex
	turns map[string]chan struct{} // by workspace
}

// New returns an Integrator.
func New(opt Options) *Integrator {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Integrator{opt: opt, turns: make(map[string]chan struct{})}
}

// A Mode is where the changes go.
type Mode string

// The modes. Only the first touches the work tree.
const (
	WorkTree  Mode = "worktree"
	Branch    Mode = "branch"     // a commit on a branch
	PatchFile Mode = "patch_file" // for `git apply`
)

// A Trailer is a line at the end of a commit's message.
type Trailer struct{ Key, Value string }

// Request says what to integrate.
type Request struct {
	Root    string             // the workspace, absolute
	ID      string             // of the patch; one that was integrated is not integrated again
	Set     *sandbox.ChangeSet // as approved
	Content sandbox.Content    // new content; it is checked against Set
	Mode    Mode               // "" is WorkTree

	// AllowDirty lets files be replaced that have edits which nobody has committed;
	// those are told in the notes. In a git work tree only.
	AllowDirty bool

	Branch   string // of mode Branch; made from HEAD where there is none
	Dir      string // of mode PatchFile; absolute
	Message  string // of the commit or the patch file
	Author   string // "Name <mail>"; "" is DefaultAuthor
	Trailers []Trailer

	// Before is called when everything is checked and staged, while that is made
	// durable, and nothing is changed: to save what will be replaced. nil is fine.
	Before func(ctx context.Context) error
	// Check is called when everything is changed and nothing is settled: an error
	// takes it all back. tree is where the outcome can be looked at: the workspace, or
	// a copy of what the commit has of it, before the branch has the commit. It is
	// empty for mode PatchFile: the outcome is the workspace with Set made, and the
	// file is not there yet. nil is fine.
	Check func(ctx context.Context, tree string) error
}

// Result is what was integrated or taken back.
type Result struct {
	ID     string   `json:"id"`
	Mode   Mode     `json:"mode"`
	Paths  []string `json:"paths"`
	Commit string   `json:"commit,omitempty"`
	Branch string   `json:"branch,omitempty"`
	File   string   `json:"file,omitempty"`
	Notes  []string `json:"notes,omitempty"` // for people
	// Again says that it had been done before, and nothing was done now.
	Again bool `json:"again,omitempty"`
	// From is where a rollback had the old content from: FromJournal, or the name of
	// a Copy. Empty where it needed none.
	From string `json:"from,omitempty"`
}

// Integrate makes the changes, all or none. When it returns nil they are durable.
// When it returns an error the workspace is as it was, unless the error has
// ReasonConflict: then it says what could not be taken back.
func (i *Integrator) Integrate(ctx context.Context, req Request) (*Result, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	p, err := newPlan(req.ID, req.Set, i.opt.Now())
	if err != nil {
		return nil, err
	}
	var result *Result
	switch req.Mode {
	case Branch:
		result, err = i.toBranch(ctx, &req, p)
	case PatchFile:
		result, err = i.toFile(ctx, &req, p)
	default:
		err = i.locked(ctx, req.Root, true, func(h *home) error {
			result, err = i.toTree(ctx, h, &req, p)
			return err
		})
	}
	if err != nil {
		return nil, explain(err)
	}
	return result, nil
}

func (r *Request) check() error {
	switch {
	case !isID(r.ID):
		return invalidID(r.ID)
	case r.Set == nil || r.Content == nil:
		return errors.New("integration needs a change set and its content")
	case !filepath.IsAbs(r.Root):
		return fmt.Errorf("workspace %q: the path is not absolute", r.Root)
	case r.Mode != "" && r.Mode != WorkTree && r.Mode != Branch && r.Mode != PatchFile:
		return refused("there is no mode %q", r.Mode)
	}
	return nil
}

func invalidID(id string) error {
	return sdk.Errorf(codes.InvalidArgument, "INTEGRATION_ID", "%.80q cannot name an integration", id).
		WithRemedy("give at most %d letters, digits and hyphens", longestID)
}

// locked calls fn with the home of a workspace, when no one else works in it. fn
// is not called where there is no home and make is not set.
func (i *Integrator) locked(ctx context.Context, root string, make bool, fn func(h *home) error) (err error) {
	release, err := i.turn(ctx, root)
	if err != nil {
		return err
	}
	defer release()
	t, err := openTree(root)
	if err != nil {
		return away(err)
	}
	defer func() { err = errors.Join(err, t.close()) }()
	h, ok, err := findHome(t, make)
	if err != nil {
		return explain(err)
	}
	if !ok {
		return nil
	}
	defer func() { err = errors.Join(err, h.close()) }()
	return fn(h)
}

// turn waits until no other call of this process works in a workspace.
func (i *Integrator) turn(ctx context.Context, root string) (release func(), err error) {
	i.mu.Lock()
	turn := i.turns[root]
	if turn == nil {
		turn = make(chan struct{}, 1)
		i.turns[root] = turn
	}
	i.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// toTree integrates into the work tree.
func (i *Integrator) toTree(ctx context.Context, h *home, req *Request, p *plan) (*Result, error) {
	result := &Result{ID: req.ID, Mode: WorkTree, Paths: p.paths()}
	again, err := known(h, p)
	if err != nil || again {
		result.Again = again
		return result, err
	}
	if err := checkOld(h.root, p); err != nil {
		return nil, err
	}
	notes, err := i.checkDirty(ctx, h, req, p)
	if err != nil {
		return nil, err
	}
	result.Notes = notes
	if err := room(h.tree, p); err != nil {
		return nil, err
	}
	r, err := h.newRecord(req.ID)
	if err != nil {
		return nil, err
	}
	defer r.close() //nolint:errcheck // its directory; what is in it is synced
	w := &work{root: h.root, record: r}
	if err := w.prepare(ctx, h, req, p, result); err != nil {
		return nil, errors.Join(err, h.discard(r))
	}
	if err := w.perform(ctx, req, p); err != nil {
		return nil, w.giveUp(h, p, err)
	}
	return result, nil
}

// known looks at what is known of the id already, and brings all other records
// to rest: what is half done would be mixed with this.
func known(h *home, p *plan) (again bool, err error) {
	ids, err := h.ids()
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		found, err := recoverOne(h, id)
		switch {
		case err != nil:
			return false, err
		case found.State == StateConflict:
			return false, conflictf(id, nil, "%s", found.Conflict)
		case id != p.ID:
		case found.State == StateIntegrated:
			return true, sameAs(h, p)
		case found.State == StateRolledBack:
			if err := forget(h, id); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func forget(h *home, id string) error {
	r, ok, err := h.record(id)
	if err != nil || !ok {
		return err
	}
	return errors.Join(h.discard(r), r.close())
}

// sameAs says whether what was integrated under the id is what is asked for.
func sameAs(h *home, p *plan) error {
	r, _, err := h.record(p.ID)
	if err != nil {
		return err
	}
	was, _, err := r.read()
	if err = errors.Join(err, r.close()); err != nil {
		return err
	}
	if was == nil || was.Hash != p.Hash {
		return refused("something else was integrated as %s", p.ID)
	}
	return nil
}

// checkOld says whether everything is as the changes were worked out against.
func checkOld(root tree, p *plan) error {
	gone := make(map[string]bool)
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Op == sandbox.OpDelete {
			gone[s.Path] = true
		} else if gone[s.Path] {
			continue // it comes where something else was
		}
		if s.Op == sandbox.OpChmod && i > 0 && wasMade(p.Steps[:i], s.Path) {
			continue
		}
		look := root.look
		if beneathAny(gone, s.Path) {
			look = root.lookPast
		}
		now, err := look(s.Path)
		if err != nil {
			return named(s.Path, err)
		}
		if !now.isBefore(&s.Change) {
			return baseMoved(s.Path, now)
		}
	}
	return nil
}

// beneathAny says whether a path lies beneath one of some.
func beneathAny(dirs map[string]bool, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if dirs[dir] {
			return true
		}
	}
	return false
}

// wasMade says whether one of the steps makes the directory.
func wasMade(steps []step, name string) bool {
	for i := range steps {
		if steps[i].Path == name && steps[i].Op == sandbox.OpMkdir {
			return true
		}
	}
	return false
}

// prepare stages everything and writes the plan. On error nothing is changed.
func (w *work) prepare(ctx context.Context, h *home, req *Request, p *plan, result *Result) error {
	s := stager{root: h.root, record: w.record, content: req.Content}
	if err := s.stage(ctx, p); err != nil {
		return errors.Join(err, s.sync())
	}
	result.Notes = append(result.Notes, s.notes...)
	synced := make(chan error, 1)
	go func() { synced <- errors.Join(s.sync(), h.sync()) }() // with the name of the record; the disk does it beside the backup
	var err error
	if req.Before != nil {
		err = req.Before(ctx)
	}
	if err = errors.Join(err, <-synced); err != nil {
		return err
	}
	crash("home synced")
	return w.record.write(p)
}

// perform makes the changes durable. On error some are made.
func (w *work) perform(ctx context.Context, req *Request, p *plan) error {
	if err := w.in(ctx, p); err != nil {
		return err
	}
	if err := w.sync(p); err != nil {
		return err
	}
	if req.Check != nil {
		if err := req.Check(ctx, req.Root); err != nil {
			return err
		}
	}
	if err := w.late(p); err != nil {
		return err
	}
	return w.record.turn(prepared, done)
}

// giveUp takes everything back, for a reason.
func (w *work) giveUp(h *home, p *plan, why error) error {
	_, ph, err := w.record.read()
	if err == nil && ph == done { // it is done, but may not be durable
		return why
	}
	if err == nil {
		_, err = w.undo(p)
	}
	if err != nil {
		failed := sdk.Errorf(codes.Aborted, ReasonConflict, "%v; and it could not be taken back: %v", why, err).
			WithRemedy("look at the files that are named; the next start of the host, and the next integration in the workspace, try again")
		failed.Cause = errors.Join(why, err)
		return failed
	}
	return errors.Join(why, h.discard(w.record))
}
