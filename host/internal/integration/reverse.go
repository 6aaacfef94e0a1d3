package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/merge"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// RollbackRequest says what to take back.
type RollbackRequest struct {
	Root, ID string
	Mode     Mode   // as it was integrated
	Branch   string // of mode Branch
	File     string // of mode PatchFile

	// Set is what was integrated, New its content, and Old where what it replaced is
	// kept, best first: for when the journal's own copies are gone or damaged, or
	// edits are merged. Without Set neither can be done, without New no merge.
	Set *sandbox.ChangeSet
	New sandbox.Content
	Old []Copy
	// Merge keeps edits that were made since, where they do not touch the same
	// lines. Without it, a file that has changed since is an error.
	Merge bool
	// CheckOnly says whether it can be taken back, and changes nothing.
	CheckOnly bool
	// Before is called before anything is replaced that the journal does not keep
	// itself, with the paths of that: to save it. nil is fine.
	Before func(ctx context.Context, paths []string) error
}

// Rollback takes back what was integrated: all of it, or nothing.
func (i *Integrator) Rollback(ctx context.Context, req RollbackRequest) (*Result, error) {
	if !isID(req.ID) {
		return nil, invalidID(req.ID)
	}
	var result *Result
	var err error
	switch req.Mode {
	case Branch:
		result, err = i.offBranch(ctx, &req)
	case PatchFile:
		result, err = offFile(&req)
	default:
		err = i.locked(ctx, req.Root, true, func(h *home) error {
			result, err = i.offTree(ctx, h, &req)
			return err
		})
	}
	if err != nil {
		return nil, explain(err)
	}
	return result, nil
}

func offFile(req *RollbackRequest) (*Result, error) {
	result := &Result{ID: req.ID, Mode: PatchFile, File: req.File}
	if req.CheckOnly {
		return result, nil
	}
	if err := os.Remove(req.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return result, nil
}

// offTree takes it back by the journal's own copies, if they are what was replaced
// and nothing has changed since; otherwise by a change set that is integrated like
// any other, from a copy elsewhere.
func (i *Integrator) offTree(ctx context.Context, h *home, req *RollbackRequest) (*Result, error) {
	again, err := reversed(h, req.ID)
	if again && !req.CheckOnly {
		err = errors.Join(err, forget(h, req.ID), forget(h, rollbackID(req.ID)))
	}
	if again || err != nil {
		return &Result{ID: req.ID, Mode: WorkTree, Again: true}, err
	}
	result, found, err := rollback(h, req)
	if err != nil || result != nil {
		return result, err
	}
	if len(found.changed) > 0 && !req.Merge {
		return nil, filesChanged(req.ID, found.changed)
	}
	if req.Set == nil {
		return nil, found.without(req.ID)
	}
	return i.reverse(ctx, h, req, found.damaged)
}

// reversed says whether the changes that take an integration back are all in the
// tree, and the host was ended before it could forget the two records.
func reversed(h *home, id string) (bool, error) {
	r, ok, err := h.record(rollbackID(id))
	if err != nil || !ok {
		return false, err
	}
	return r.is(done), r.close()
}

func filesChanged(id string, changed []Conflict) error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonFilesChanged, "files have changed since they were integrated: %s", list(changed)).
		WithRemedy("nothing was changed; take it back with what was edited since kept: sop patch rollback %s --merge", id)
}

// A hindrance is why the journal alone cannot take an integration back.
type hindrance struct {
	changed []Conflict // files, since
	damaged string     // what is wrong with the journal's copies
}

// without says why nothing can be done without the change set.
func (f *hindrance) without(id string) error {
	if f.damaged != noRecord {
		return copiesLost(id, []string{FromJournal + ": " + f.damaged})
	}
	return errNoRecord
}

const noRecord = "it has no record of it any more"

// rollback undoes a record. Without a result nothing was done, for what hinders.
func rollback(h *home, req *RollbackRequest) (*Result, *hindrance, error) {
	id := req.ID
	r, ok, err := h.record(id)
	if err != nil || !ok {
		return nil, &hindrance{damaged: noRecord}, err
	}
	defer r.close() //nolint:errcheck // its directory; what is in it is synced
	p, ph, err := r.read()
	if isConflict(err) && r.is(done) {
		return nil, &hindrance{damaged: "its plan cannot be read"}, nil
	}
	if err != nil || p == nil {
		return nil, &hindrance{damaged: noRecord}, err
	}
	result := &Result{ID: id, Mode: WorkTree, Paths: p.paths(), From: FromJournal}
	w := &work{root: h.root, record: r}
	switch ph {
	case rolledBack:
		result.Again = true
		return result, nil, nil
	case prepared:
		return nil, nil, conflictf(id, nil, "it is half done")
	case done:
		if found, err := w.hinders(p); found != nil || err != nil {
			return nil, found, err
		}
		if req.CheckOnly {
			return result, nil, nil
		}
		if err := r.turn(done, undoing); err != nil {
			return nil, nil, err
		}
	}
	if req.CheckOnly { // it is under way
		return result, nil, nil
	}
	result.Notes, err = w.finishRollback(p)
	return result, nil, err
}

// hinders says why an integration that is done cannot be undone by its record; nil:
// it can.
func (w *work) hinders(p *plan) (*hindrance, error) {
	damaged, err := w.damaged(p)
	if err != nil {
		return nil, err
	}
	if damaged != "" {
		return &hindrance{damaged: damaged}, nil
	}
	j, _, err := w.judge(p)
	if err != nil {
		return nil, err
	}
	if changed := slices.Concat(j.conflicts, j.edited); len(changed) > 0 {
		return &hindrance{changed: changed, damaged: "files have changed since"}, nil
	}
	return nil, nil
}

// reverse integrates the changes that take others back, with the first copy that
// has all that they need. damaged is why that is not the journal.
func (i *Integrator) reverse(ctx context.Context, h *home, req *RollbackRequest, damaged string) (*Result, error) {
	why := []string{FromJournal + ": " + damaged}
	for n := range len(req.Old) + 1 {
		from := &opened{ctx: ctx}
		if n < len(req.Old) {
			from.copy = &req.Old[n]
		}
		result, err := i.reverseFrom(ctx, h, req, from)
		bad := damagedError{}
		if !errors.As(err, &bad) {
			return result, err
		}
		if from.copy != nil {
			why = append(why, from.copy.Name+": "+bad.why)
		}
	}
	return nil, copiesLost(req.ID, why)
}

func (i *Integrator) reverseFrom(ctx context.Context, h *home, req *RollbackRequest, from *opened) (*Result, error) {
	b := &backward{ctx: ctx, root: h.root, req: req, from: from, text: make(map[string][]byte)}
	if err := errors.Join(b.changes(), from.close()); err != nil {
		return nil, err
	}
	result := &Result{ID: req.ID, Mode: WorkTree, Notes: b.notes}
	if req.CheckOnly {
		return result, nil
	}
	if len(b.set.Changes) == 0 {
		result.Again = true
		return result, forget(h, req.ID)
	}
	if from.used {
		result.From = from.copy.Name
	}
	again := Request{Root: req.Root, ID: rollbackID(req.ID), Set: &b.set, Content: b.content, AllowDirty: true, Before: b.before()}
	p, err := newPlan(again.ID, again.Set, i.opt.Now())
	if err != nil {
		return nil, err
	}
	made, err := i.toTree(ctx, h, &again, p)
	if err != nil {
		return nil, err
	}
	result.Paths, result.Notes = made.Paths, append(result.Notes, made.Notes...)
	crash("reversed")
	if err := forget(h, req.ID); err != nil {
		return nil, err
	}
	return result, forget(h, again.ID)
}

// rollbackID names the record under which another is taken back.
func rollbackID(id string) string {
	return id[:min(len(id), longestID-len(rollbackSuffix))] + rollbackSuffix
}

const rollbackSuffix = "-rollback"

// backward makes the change set that takes another back.
type backward struct {
	ctx       context.Context //nolint:containedctx // of one call
	root      tree
	req       *RollbackRequest
	from      *opened
	set       sandbox.ChangeSet
	text      map[string][]byte // new content, by path
	changed   []Conflict        // files that are neither old nor new
	conflicts []Conflict        // edits that cannot be merged
	notes     []string
}

func (b *backward) content(c sandbox.Change) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b.text[c.Path])), nil
}

// before saves what the changes replace; nil where they replace nothing, or nobody
// wants to.
func (b *backward) before() func(context.Context) error {
	var paths []string
	for i := range b.set.Changes {
		if c := &b.set.Changes[i]; c.OldSHA256 != "" {
			paths = append(paths, c.Path)
		}
	}
	if b.req.Before == nil || len(paths) == 0 {
		return nil
	}
	slices.Sort(paths)
	return func(ctx context.Context) error { return b.req.Before(ctx, slices.Compact(paths)) }
}

// changes takes all changes back, or says why that cannot be done.
func (b *backward) changes() error {
	for n := range b.req.Set.Changes {
		c := &b.req.Set.Changes[n]
		if err := b.change(c); err != nil {
			return named(c.Path, err)
		}
	}
	if len(b.changed) > 0 {
		return filesChanged(b.req.ID, b.changed)
	}
	if len(b.conflicts) > 0 {
		return sdk.Errorf(codes.FailedPrecondition, ReasonFilesChanged, "edits made since cannot be merged: %s", list(b.conflicts)).
			WithRemedy("nothing was changed; take it back by hand: `sop patch show %s` has the changes", b.req.ID)
	}
	return nil
}

func (b *backward) change(c *sandbox.Change) error {
	now, err := b.root.lookPast(c.Path)
	if err != nil {
		return err
	}
	gone := b.goes(c.Path)
	if gone != nil && now.isBefore(gone) {
		return nil // somebody has put it back
	}
	if c == gone && b.comes(c.Path) {
		now = entry{} // what has come in its place is taken back by itself
	}
	switch {
	case now.kind == missing && before(c).kind == missing:
		return nil // somebody has deleted it
	case now.isBefore(c) && before(c).kind != missing:
		return nil // somebody has put it back
	case now.isAfter(c):
		return b.plain(c, now)
	case c.Op == sandbox.OpMkdir && now.kind == directory:
		return b.plain(c, now)
	case !b.req.Merge:
		b.changed = append(b.changed, Conflict{c.Path, fmt.Sprintf("it is %s", now)})
		return nil
	case now.kind == regular && c.Op == sandbox.OpModify:
		return b.merged(c, now)
	}
	b.conflicts = append(b.conflicts, Conflict{c.Path, fmt.Sprintf("it is %s", now)})
	return nil
}

// goes returns the change that takes away what was at a path, or nil.
func (b *backward) goes(name string) *sandbox.Change {
	for i := range b.req.Set.Changes {
		if c := &b.req.Set.Changes[i]; c.Path == name && c.Op == sandbox.OpDelete {
			return c
		}
	}
	return nil
}

// comes says whether the changes put something at a path.
func (b *backward) comes(name string) bool {
	return slices.ContainsFunc(b.req.Set.Changes, func(c sandbox.Change) bool { return c.Path == name && c.Op != sandbox.OpDelete })
}

// plain takes back a change whose outcome nobody has changed.
func (b *backward) plain(c *sandbox.Change, now entry) error {
	back := sandbox.Change{Path: c.Path, Mode: c.OldMode, OldSHA256: now.hash, OldMode: now.mode}
	switch c.Op {
	case sandbox.OpMkdir:
		if others := b.others(c.Path); others != "" {
			b.notes = append(b.notes, fmt.Sprintf("%s stays: %s is in it", c.Path, others))
			return nil
		}
		back.Op, back.OldDir, back.Mode = sandbox.OpDelete, true, 0
	case sandbox.OpChmod:
		back.Op, back.SHA256, back.OldDir = sandbox.OpChmod, now.hash, c.OldDir
	case sandbox.OpAdd:
		back.Op, back.Mode = sandbox.OpDelete, 0
	case sandbox.OpDelete:
		return b.putBack(c, back)
	default:
		if c.OldSHA256 == "" { // a link that came
			back.Op, back.Mode = sandbox.OpDelete, 0
			break
		}
		return b.putBack(c, back)
	}
	b.set.Changes = append(b.set.Changes, back)
	return nil
}

// putBack puts old content in the place of new, or where there is nothing.
func (b *backward) putBack(c *sandbox.Change, back sandbox.Change) error {
	if c.OldDir {
		back.Op, back.OldMode = sandbox.OpMkdir, 0
		b.set.Changes = append(b.set.Changes, back)
		return nil
	}
	old, isLink, err := b.from.readKind(c)
	if err != nil {
		return err
	}
	if isLink {
		back.Op, back.Target, back.SHA256, back.Mode, back.OldMode = sandbox.OpSymlink, string(old), c.OldSHA256, 0, 0
		b.set.Changes = append(b.set.Changes, back)
		return nil
	}
	b.write(back, old)
	return nil
}

// write adds a change to new content.
func (b *backward) write(back sandbox.Change, content []byte) {
	back.Op = sandbox.OpModify
	if back.OldSHA256 == "" {
		back.Op, back.OldMode = sandbox.OpAdd, 0
	}
	back.SHA256, back.Size = hashOf(string(content)), int64(len(content))
	if back.SHA256 == back.OldSHA256 {
		if back.Op = sandbox.OpChmod; back.Mode == back.OldMode {
			return
		}
	}
	b.text[back.Path] = content
	b.set.Changes = append(b.set.Changes, back)
}

// merged keeps what was edited since.
func (b *backward) merged(c *sandbox.Change, now entry) error {
	if b.req.New == nil {
		b.conflicts = append(b.conflicts, Conflict{c.Path, "what was put there is not kept any more, and edits cannot be told from it"})
		return nil
	}
	was, err := readAll(b.req.New, c, c.SHA256)
	if err != nil {
		return fmt.Errorf("what was put there: %w", err)
	}
	old, err := b.from.read(c)
	if err != nil {
		return err
	}
	current, err := readAll(b.root.old, c, now.hash)
	if err != nil {
		return fmt.Errorf("what is there now: %w", err)
	}
	text, err := merge.Three(b.ctx, was, current, old)
	if errors.Is(err, merge.ErrConflict) {
		b.conflicts = append(b.conflicts, Conflict{c.Path, err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	mode := c.OldMode
	if now.mode != c.Mode {
		mode = now.mode // somebody has chosen it
	}
	b.write(sandbox.Change{Path: c.Path, Mode: mode, OldSHA256: now.hash, OldMode: now.mode}, text)
	if hashOf(string(text)) != c.OldSHA256 {
		b.notes = append(b.notes, c.Path+" keeps what was edited since")
	}
	return nil
}

// others names something in a directory that the changes did not make.
func (b *backward) others(name string) string {
	dir, err := b.root.sub(name)
	if err != nil {
		return "something"
	}
	names, err := dir.file.Readdirnames(-1)
	_ = dir.close() // only read from
	if err != nil {
		return "something"
	}
	for _, entry := range names {
		full := strings.TrimPrefix(name+"/"+entry, "./")
		mine := slices.ContainsFunc(b.req.Set.Changes, func(c sandbox.Change) bool {
			return c.Path == full && (c.Op == sandbox.OpAdd || c.Op == sandbox.OpMkdir || c.Op == sandbox.OpSymlink && c.OldSHA256 == "")
		})
		if !mine {
			return full
		}
	}
	return ""
}
