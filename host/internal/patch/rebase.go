package patch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/merge"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// Rebase looks whether what a patch replaces is still in the workspace. If it is,
// the patch is returned as it is. If it has changed in other places, another patch
// takes its place, made for what is there now: with a hash of its own, not
// verified and not approved. If nothing of the patch is left to do, it is
// superseded by nothing. If it has changed in the same places, the error has
// [ReasonRebase] and nothing is changed: somebody has to try again from there.
func (s *Service) Rebase(ctx context.Context, ref string, root *os.Root, by string) (*Patch, error) {
	p, err := s.store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if p.Dropped {
		return nil, dropped(p, os.ErrNotExist)
	}
	if !CanGo(p.State, StateSuperseded) {
		_, err := p.move(StateSuperseded, Superseded, by, "", s.opt.Now())
		return nil, err
	}
	r := &rebase{ctx: ctx, s: s, p: p, root: root, text: make(map[string][]byte)}
	for i := range p.Set.Changes {
		if err := r.change(&p.Set.Changes[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Set.Changes[i].Path, err)
		}
	}
	switch {
	case len(r.conflicts) > 0:
		return nil, sdk.Errorf(codes.Aborted, ReasonRebase, "patch %s cannot be rebased: %s", p.ID, strings.Join(r.conflicts, "; ")).
			WithRemedy("have the task run again on what is there now: sop task retry %s", p.Task)
	case !r.moved:
		return p, nil
	case len(r.set.Changes) == 0:
		return s.nothingLeft(ctx, p, by)
	}
	return s.Propose(ctx, Proposal{
		Task: p.Task, Workspace: p.Workspace, Title: p.Title, Proposer: p.Proposer, Set: &r.set, Content: r.content, Old: OldFrom(root),
		Evidence: p.Evidence, Rule: p.Rule, Supersedes: p.ID, Key: "rebase:" + p.ID + ":" + Hash(&r.set)[:16],
	})
}

func (s *Service) nothingLeft(ctx context.Context, p *Patch, by string) (*Patch, error) {
	return s.update(ctx, p.ID, func(p *Patch, at time.Time) (*Change, error) {
		return one(p.move(StateSuperseded, Superseded, by, "the workspace has all of it already", at))
	})
}

// rebase makes the changes of a patch anew for what is there now.
type rebase struct {
	ctx       context.Context //nolint:containedctx // of one call
	s         *Service
	p         *Patch
	root      *os.Root
	set       sandbox.ChangeSet
	text      map[string][]byte // merged, by path
	moved     bool
	conflicts []string
}

func (r *rebase) content(c sandbox.Change) (io.ReadCloser, error) {
	if text, merged := r.text[c.Path]; merged {
		return io.NopCloser(bytes.NewReader(text)), nil
	}
	return r.s.Content(r.p)(c)
}

// now is what is at a path.
type now struct {
	hash string
	mode uint32
	dir  bool
	file bool
}

func (r *rebase) look(name string) (n now, err error) {
	info, err := r.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	n.mode, n.dir, n.file = uint32(info.Mode().Perm()), info.IsDir(), info.Mode().IsRegular()
	switch {
	case n.file:
		n.hash, err = r.hash(name)
	case info.Mode()&fs.ModeSymlink != 0:
		var target string
		target, err = r.root.Readlink(name)
		n.hash = HashOf([]byte(target))
	}
	return n, err
}

func (r *rebase) hash(name string) (string, error) {
	file, err := r.root.Open(name)
	if err != nil {
		return "", err
	}
	hash, err := hashFrom(file)
	return hash, errors.Join(err, file.Close())
}

// change takes one change over, in the form that it has now.
func (r *rebase) change(c *sandbox.Change) error {
	n, err := r.look(c.Path)
	if err != nil {
		return err
	}
	switch {
	case r.asWas(c, n):
		r.set.Changes = append(r.set.Changes, *c)
		return nil
	case asWillBe(c, n):
		r.moved = true // somebody has made it already
		return nil
	case c.Op == sandbox.OpModify && n.file:
		r.moved = true
		return r.merge(c, n)
	case c.Op == sandbox.OpChmod && n.file && n.mode == c.OldMode:
		r.moved = true
		next := *c
		next.OldSHA256, next.SHA256 = n.hash, n.hash
		r.set.Changes = append(r.set.Changes, next)
		return nil
	}
	r.conflicts = append(r.conflicts, c.Path+" is another")
	return nil
}

// asWas says whether what a change replaces is as it was. What comes in the place
// of something that goes is as that was.
func (r *rebase) asWas(c *sandbox.Change, n now) bool {
	switch {
	case c.OldDir:
		return n.dir && (c.Op != sandbox.OpChmod || n.mode == c.OldMode)
	case c.OldSHA256 == "":
		return n == now{} || r.goes(c.Path)
	}
	return n.hash == c.OldSHA256 && (!n.file || n.mode == c.OldMode)
}

func (r *rebase) goes(name string) bool {
	for i := range r.set.Changes {
		if r.set.Changes[i].Path == name && r.set.Changes[i].Op == sandbox.OpDelete {
			return true
		}
	}
	return false
}

func asWillBe(c *sandbox.Change, n now) bool {
	switch c.Op {
	case sandbox.OpDelete:
		return n == now{}
	case sandbox.OpMkdir:
		return n.dir
	case sandbox.OpSymlink:
		return !n.file && n.hash == c.SHA256
	}
	return n.file && n.hash == c.SHA256 && n.mode == c.Mode
}

// merge makes a change in what is there now.
func (r *rebase) merge(c *sandbox.Change, n now) error {
	base, err := readAll(r.s.OldContent(r.p), c, merge.MaxSize+1)
	if err != nil {
		return err
	}
	theirs, err := readAll(r.s.Content(r.p), c, merge.MaxSize+1)
	if err != nil {
		return err
	}
	ours, err := readAll(OldFrom(r.root), c, merge.MaxSize+1)
	if err != nil {
		return err
	}
	text, err := merge.Three(r.ctx, base, ours, theirs)
	if errors.Is(err, merge.ErrConflict) {
		r.conflicts = append(r.conflicts, fmt.Sprintf("%s: %v", c.Path, err))
		return nil
	}
	if err != nil {
		return err
	}
	next := *c
	next.OldSHA256, next.OldMode, next.SHA256, next.Size = HashOf(ours), n.mode, HashOf(text), int64(len(text))
	if n.mode != c.OldMode {
		next.Mode = n.mode // somebody has chosen it
	}
	if next.SHA256 == next.OldSHA256 && next.Mode == next.OldMode {
		return nil
	}
	if next.SHA256 == next.OldSHA256 {
		next.Op = sandbox.OpChmod
	}
	r.text[c.Path] = text
	r.set.Changes = append(r.set.Changes, next)
	return nil
}
