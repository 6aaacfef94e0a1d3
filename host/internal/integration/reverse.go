package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

	// Set is what was integrated, New its content, and Old what it replaced: for
	// when the journal's own copies are gone, or edits are merged. nil: neither can
	// be done.
	Set      *sandbox.ChangeSet
	New, Old sandbox.Content
	// Merge keeps edits that were made since, where they do not touch the same
	// lines. Without it, a file that has changed since is an error.
	Merge bool
	// Before is as in Request; it is called where files with edits are replaced.
	Before func(ctx context.Context) error
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
	if err := os.Remove(req.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Result{ID: req.ID, Mode: PatchFile, File: req.File}, nil
}

// offTree takes it back by the journal's own copies, if nothing has changed since;
// otherwise by a change set that is integrated like any other.
func (i *Integrator) offTree(ctx context.Context, h *home, req *RollbackRequest) (*Result, error) {
	result, changed, err := rollback(h, req.ID)
	if err != nil || result != nil {
		return result, err
	}
	if len(changed) > 0 && !req.Merge {
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonFilesChanged, "files have changed since they were integrated: %s", list(changed)).
			WithRemedy("nothing was changed; take it back with what was edited since kept: sop patch rollback %s --merge", req.ID)
	}
	if req.Set == nil || req.New == nil || req.Old == nil {
		return nil, errNoRecord
	}
	return i.reverse(ctx, h, req)
}

// rollback undoes a record. The result is nil where there is none, or where some
// of the files have changed.
func rollback(h *home, id string) (result *Result, changed []Conflict, err error) {
	r, ok, err := h.record(id)
	if err != nil || !ok {
		return nil, nil, err
	}
	defer r.close() //nolint:errcheck // its directory; what is in it is synced
	p, ph, err := r.read()
	if err != nil || p == nil {
		return nil, nil, err
	}
	result = &Result{ID: id, Mode: WorkTree, Paths: p.paths()}
	w := &work{root: h.root, record: r}
	switch ph {
	case rolledBack:
		result.Again = true
		return result, nil, nil
	case prepared:
		return nil, nil, conflictf(id, nil, "it is half done")
	case done:
		j, all, err := w.judge(p)
		if err != nil {
			return nil, nil, err
		}
		if changed := slices.Concat(j.conflicts, j.edited, untouched(p, all)); len(changed) > 0 {
			return nil, changed, nil
		}
		if err := r.turn(done, undoing); err != nil {
			return nil, nil, err
		}
	}
	result.Notes, err = w.finishRollback(p)
	return result, nil, err
}

// untouched are files that are not as they were left, although that is no
// conflict: somebody has put back what was there, or deleted what had come.
func untouched(p *plan, all []status) (out []Conflict) {
	for i := range p.Steps {
		if s := &p.Steps[i]; all[i] == waiting && s.move() == swap {
			out = append(out, Conflict{s.Path, "it is not as it was left"})
		}
	}
	return out
}

// reverse integrates the changes that take others back.
func (i *Integrator) reverse(ctx context.Context, h *home, req *RollbackRequest) (*Result, error) {
	b := &backward{ctx: ctx, root: h.root, req: req, text: make(map[string][]byte)}
	for n := range req.Set.Changes {
		c := &req.Set.Changes[n]
		if err := b.change(c); err != nil {
			return nil, named(c.Path, err)
		}
	}
	if len(b.conflicts) > 0 {
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonFilesChanged, "edits made since cannot be merged: %s", list(b.conflicts)).
			WithRemedy("nothing was changed; take it back by hand: `sop patch show %s` has the changes", req.ID)
	}
	result := &Result{ID: req.ID, Mode: WorkTree, Notes: b.notes}
	if len(b.set.Changes) == 0 {
		result.Again = true
		return result, forget(h, req.ID)
	}
	again := Request{
		Root: req.Root, ID: rollbackID(req.ID), Set: &b.set, Content: b.content, AllowDirty: true, Before: req.Before,
	}
	p, err := newPlan(again.ID, again.Set, i.opt.Now())
	if err != nil {
		return nil, err
	}
	made, err := i.toTree(ctx, h, &again, p)
	if err != nil {
		return nil, err
	}
	result.Paths, result.Notes = made.Paths, append(result.Notes, made.Notes...)
	return result, errors.Join(forget(h, req.ID), forget(h, again.ID))
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
	set       sandbox.ChangeSet
	text      map[string][]byte // new content, by path
	conflicts []Conflict
	notes     []string
}

func (b *backward) content(c sandbox.Change) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b.text[c.Path])), nil
}

func (b *backward) change(c *sandbox.Change) error {
	now, err := b.root.lookPast(c.Path)
	if err != nil {
		return err
	}
	if c.Op == sandbox.OpDelete && b.comes(c.Path) {
		now = entry{} // what has come in its place is taken back by itself
	}
	switch {
	case now.isBefore(c) && before(c).kind != missing, now.kind == missing && before(c).kind == missing:
		return nil // somebody has put it back, or deleted it
	case now.isAfter(c):
		return b.plain(c, now)
	case now.kind == regular && c.Op == sandbox.OpModify:
		return b.merged(c, now)
	case c.Op == sandbox.OpMkdir && now.kind == directory:
		return b.plain(c, now)
	}
	b.conflicts = append(b.conflicts, Conflict{c.Path, fmt.Sprintf("it is %s", now)})
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
	old, err := b.read(b.req.Old, c, c.OldSHA256)
	if err != nil {
		return err
	}
	// All links have this mode, and hardly a file has it.
	if c.Op == sandbox.OpSymlink || c.Op == sandbox.OpDelete && c.OldMode == 0o777 {
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
	was, err := b.read(b.req.New, c, c.SHA256)
	if err != nil {
		return err
	}
	old, err := b.read(b.req.Old, c, c.OldSHA256)
	if err != nil {
		return err
	}
	current, err := b.read(b.root.old, c, now.hash)
	if err != nil {
		return err
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

func (b *backward) read(from sandbox.Content, c *sandbox.Change, hash string) ([]byte, error) {
	r, err := from(*c)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if hashOf(string(text)) != hash {
		return nil, fmt.Errorf("the copy of %s is damaged: %w", filepath.Base(c.Path), errNoRecord)
	}
	return text, nil
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
