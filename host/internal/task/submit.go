package task

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Op is what a change does to a path; the words are those of sandbox.Op.
type Op string

// The operations that an agent can submit.
const (
	OpAdd     Op = "add"
	OpModify  Op = "modify"
	OpDelete  Op = "delete"
	OpChmod   Op = "chmod"
	OpSymlink Op = "symlink"
	// OpPut is add or modify, as it stands; a proposal has one of these.
	OpPut Op = "put"
)

// Ops returns all operations.
func Ops() []Op { return []Op{OpAdd, OpModify, OpDelete, OpChmod, OpSymlink, OpPut} }

// Submission is what a holder brings.
type Submission struct {
	Files       []File
	Explanation string
}

// File is one path that is to change.
type File struct {
	Path      string
	Op        Op
	Mode      uint32 // permissions afterwards; 0: as they are, or 0644
	Content   []byte
	Target    string // of a symlink
	OldSHA256 string // of what the agent worked on; empty: it does not say
}

// Proposal is a submission with what it replaces, for whoever keeps patches.
type Proposal struct {
	Task, Workspace, Title, Proposer string
	Fence                            int64
	Approval                         Approval
	Explanation                      string
	Changes                          []ProposedChange
}

// ProposedChange is one change of a proposal. What it replaces was read in the
// workspace a moment ago.
type ProposedChange struct {
	Path              string
	Op                Op
	Mode, OldMode     uint32
	SHA256, OldSHA256 string // of content, or of a link's target; empty where there is none
	Content           []byte
	Target            string
}

// Proposals keep patches.
type Proposals interface {
	// Check refuses what no patch may change, as Propose does.
	Check(ctx context.Context, p *Proposal) error
	// Propose takes a proposal over and returns the id of the patch. The same task
	// and fence again is the same patch.
	Propose(ctx context.Context, p *Proposal) (string, error)
}

// Reasons why a submission is refused.
const (
	ReasonSubmission = "TASK_SUBMISSION"
	ReasonBaseMoved  = "TASK_BASE_MOVED" // what it replaces is not what the agent worked on
)

// Bounds on a submission. The API bounds a whole request by 1 MiB as well.
const (
	maxFiles       = 1000
	maxSubmitted   = 64 << 20 // bytes of content together
	maxReplaced    = 64 << 20 // bytes of one file that is replaced
	maxExplanation = 16 << 10
	maxDepth       = 64
	permissions    = 0o777
	usualMode      = 0o644
)

// Submit takes what a holder brings over as a patch, and gives the lease up.
func (s *Service) Submit(ctx context.Context, h Hold, sub Submission) (*Task, error) {
	p, err := s.proposal(ctx, h, &sub)
	if err != nil {
		return nil, err
	}
	id, err := s.opt.Proposals.Propose(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.Advance(ctx, h, Step{To: StateProposed, Why: "submitted by " + h.By, Patch: id})
}

// CheckSubmit says whether Submit would take it over.
func (s *Service) CheckSubmit(ctx context.Context, h Hold, sub Submission) error {
	p, err := s.proposal(ctx, h, &sub)
	if err != nil {
		return err
	}
	return s.opt.Proposals.Check(ctx, p)
}

func (s *Service) proposal(ctx context.Context, h Hold, sub *Submission) (p *Proposal, err error) {
	if s.opt.Proposals == nil || s.opt.Trees == nil {
		return nil, sdk.Errorf(codes.Unimplemented, ReasonSubmission, "this host takes no patches from agents")
	}
	t, err := s.store.Get(ctx, h.ID)
	if err != nil {
		return nil, err
	}
	if !t.holds(h, s.now()) {
		return nil, stale(t, h)
	}
	if !CanGo(t.State, StateProposed) || t.State == StateVerifying || t.State == StateIntegrating {
		return nil, t.cannot(StateProposed)
	}
	if t.Workspace == "" {
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonSubmission, "task %s is about no workspace: there is nothing to propose a change to", t.ID).
			WithRemedy("mend what it names; it ends by itself when that is healthy again")
	}
	if err := sub.check(); err != nil {
		return nil, err
	}
	root, err := s.opt.Trees.Root(t.Workspace)
	if err != nil {
		return nil, fmt.Errorf("open the workspace of task %s: %w", t.ID, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	p = &Proposal{
		Task: t.ID, Workspace: t.Workspace, Title: t.Title, Proposer: h.By, Fence: h.Fence, Approval: s.Route(t).Approval, Explanation: sub.Explanation,
	}
	for i := range sub.Files {
		f := &sub.Files[i]
		if err := t.Spec.permits(f.Path); err != nil {
			return nil, err
		}
		made, err := changes(root, f)
		if err != nil {
			return nil, err
		}
		p.Changes = append(p.Changes, made...)
	}
	if len(p.Changes) == 0 {
		return nil, refused("files", "nothing is changed: the workspace has all of it already").
			WithRemedy("give the task back, or let a scan see that there is nothing left to do")
	}
	return p, nil
}

// check refuses what no submission may be, whatever the workspace holds.
func (sub *Submission) check() error {
	size := 0
	seen := make(map[string]bool)
	switch {
	case len(sub.Files) == 0:
		return refused("files", "nothing is submitted").WithRemedy("give the task up instead, if there is nothing to do")
	case len(sub.Files) > maxFiles:
		return refused("files", "%d files are submitted, over the limit of %d", len(sub.Files), maxFiles)
	case len(sub.Explanation) > maxExplanation:
		return refused("explanation", "the explanation is longer than %d bytes", maxExplanation)
	}
	for i := range sub.Files {
		f := &sub.Files[i]
		field := fmt.Sprintf("files[%d]", i)
		if err := f.check(field); err != nil {
			return err
		}
		if seen[f.Path] {
			return refused(field, "%q is submitted twice", f.Path)
		}
		seen[f.Path] = true
		if size += len(f.Content); size > maxSubmitted {
			return refused(field, "more than %d bytes are submitted", maxSubmitted)
		}
	}
	return nil
}

func (f *File) check(field string) error {
	if f.Path == "" || f.Path == "." || checkPath(field, f.Path) != nil || !printable(f.Path) {
		return refused(field, "%q is no path of a file within the workspace", clip(f.Path, maxRef)).
			WithRemedy("write it relative to the workspace, with slashes and without ..")
	}
	switch {
	case strings.Count(f.Path, "/") >= maxDepth:
		return refused(field, "%q lies deeper than %d directories", clip(f.Path, maxRef), maxDepth)
	case slices.ContainsFunc(strings.Split(f.Path, "/"), func(e string) bool { return len(e) > maxElement }):
		return refused(field, "a name in %q is longer than %d bytes", clip(f.Path, maxRef), maxElement)
	case f.OldSHA256 != "" && !isSHA256(f.OldSHA256):
		return refused(field, "the old_sha256 of %q is no SHA-256", f.Path).WithRemedy("give 64 hexadecimal digits, or leave it out")
	case !slices.Contains(Ops(), f.Op):
		return refused(field, "there is no operation %q", clip(string(f.Op), maxRef)).WithRemedy("the operations are %v", Ops())
	case f.Mode&^permissions != 0:
		return refused(field, "the mode %o of %q holds more than permissions", f.Mode, f.Path)
	case f.Op == OpChmod && f.Mode == 0:
		return refused(field, "chmod of %q names no mode", f.Path)
	case f.Op != OpAdd && f.Op != OpModify && f.Op != OpPut && len(f.Content) > 0:
		return refused(field, "%s of %q has no content", f.Op, f.Path)
	case (f.Op == OpSymlink) != (f.Target != ""):
		return refused(field, "a symlink, and nothing else, has a target: %q", f.Path)
	case strings.ContainsRune(f.Target, 0) || len(f.Target) > maxPathLen:
		return refused(field, "the link %q has a target that no link can have", f.Path)
	}
	return nil
}

// isSHA256 says whether text is a hash in hexadecimal digits.
func isSHA256(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == sha256.Size
}

func refused(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, ReasonSubmission, format, args...).WithField(field, "")
}

// changes reads what a file replaces and says what the change is. A file that takes
// the place of a link, or a link that of a file, is two: one goes, and one comes.
// What is there already is none.
func changes(root *os.Root, f *File) ([]ProposedChange, error) {
	was, err := replaced(root, f)
	if err != nil {
		return nil, err
	}
	c := ProposedChange{Path: f.Path, Op: f.Op, Mode: f.Mode, OldMode: was.mode, OldSHA256: was.hash, Content: f.Content, Target: f.Target}
	if f.Op == OpPut {
		if c.Op = OpAdd; was.there {
			c.Op = OpModify
		}
	}
	switch {
	case f.OldSHA256 != "" && !strings.EqualFold(f.OldSHA256, was.hash):
		now := "not there"
		if was.there {
			now = was.hash
		}
		return nil, sdk.Errorf(codes.Aborted, ReasonBaseMoved, "%q is not what was worked on: it is %s, not %s", f.Path, now, clip(f.OldSHA256, maxRef)).
			WithRemedy("read the file again, and submit a change of it as it is")
	case c.Op == OpAdd && was.there:
		return nil, refused(f.Path, "%q is there already", f.Path).WithRemedy("submit it as modify")
	case c.Op != OpAdd && c.Op != OpSymlink && !was.there:
		return nil, refused(f.Path, "there is no %q to %s", f.Path, f.Op)
	case c.Op == OpChmod && was.link:
		return nil, refused(f.Path, "%q is a link, which has no permissions of its own", f.Path).WithRemedy("submit the file that it leads to")
	}
	if was.there && c.Op != OpDelete && was.link != (c.Op == OpSymlink) {
		goes := ProposedChange{Path: c.Path, Op: OpDelete, OldMode: c.OldMode, OldSHA256: c.OldSHA256}
		if c.OldMode, c.OldSHA256 = 0, ""; c.Op == OpModify {
			c.Op = OpAdd
		}
		return []ProposedChange{goes, c.completed()}, nil
	}
	if c = c.completed(); c.SHA256 == c.OldSHA256 && c.Mode == c.OldMode {
		return nil, nil
	}
	return []ProposedChange{c}, nil
}

// completed is a change with what follows from the rest.
func (c ProposedChange) completed() ProposedChange {
	if c.Mode == 0 {
		if c.Mode = c.OldMode; c.OldSHA256 == "" {
			c.Mode = usualMode
		}
	}
	switch c.Op {
	case OpAdd, OpModify:
		c.SHA256 = sum(c.Content)
	case OpSymlink:
		c.SHA256 = sum([]byte(c.Target))
	case OpChmod:
		c.SHA256 = c.OldSHA256
	case OpDelete:
		c.Mode = 0
	}
	return c
}

func sum(b []byte) string {
	hash := sha256.Sum256(b)
	return hex.EncodeToString(hash[:])
}

// entry is what stands at a path.
type entry struct {
	there, link bool
	mode        uint32
	hash        string // of content, or of a link's target
}

// replaced finds what stands at a path. Nothing on the way to it may be a link.
func replaced(root *os.Root, f *File) (e entry, err error) {
	for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
		info, err := root.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return e, fmt.Errorf("look at %s: %w", dir, err)
		}
		if !info.IsDir() {
			return e, refused(f.Path, "%q is no directory", dir)
		}
	}
	info, err := root.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, nil
	case err != nil:
		return e, fmt.Errorf("look at %s: %w", f.Path, err)
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := root.Readlink(f.Path)
		return entry{there: true, link: true, mode: permissions, hash: sum([]byte(target))}, err
	case !info.Mode().IsRegular():
		return e, refused(f.Path, "%q is neither a file nor a link", f.Path)
	case info.Size() > maxReplaced:
		return e, refused(f.Path, "%q has %d bytes, over the limit of %d", f.Path, info.Size(), maxReplaced)
	}
	e = entry{there: true, mode: uint32(info.Mode().Perm())}
	e.hash, err = hashFile(root, f.Path)
	return e, err
}

func hashFile(root *os.Root, name string) (_ string, err error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
