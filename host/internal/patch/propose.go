package patch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/patchfile"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// Proposal is a change that somebody proposes.
type Proposal struct {
	Task      string
	Workspace string
	Title     string
	Proposer  string
	Set       *sandbox.ChangeSet
	Content   sandbox.Content // what the changes put there
	Old       sandbox.Content // what they replace; see [OldFrom]
	Evidence  json.RawMessage
	Rule      Rule // "" is One

	// Key makes a retry count once: a second proposal with it returns the patch of
	// the first. Empty: each counts.
	Key string
	// Supersedes is the patch that this takes the place of; empty: none.
	Supersedes string
}

const (
	maxName     = 256 // bytes
	maxTitle    = 512
	maxReason   = 4096
	maxDocument = 4 << 20 // of evidence or verdict
	maxOld      = 256 << 20
)

func (r *Proposal) check() error {
	for _, f := range []struct {
		field, value string
		optional     bool
	}{{"task", r.Task, true}, {"workspace", r.Workspace, false}, {"proposer", r.Proposer, false}, {"key", r.Key, true}} {
		if !isName(f.value) || f.value == "" && !f.optional {
			return invalid(f.field, "%.80q cannot stand here", f.value).WithRemedy("give at most %d printable bytes without spaces", maxName)
		}
	}
	switch {
	case len(r.Title) > maxTitle || strings.ContainsFunc(r.Title, unicode.IsControl):
		return invalid("title", "the title is too long or not one line").WithRemedy("give at most %d bytes", maxTitle)
	case r.Rule != Auto && r.Rule != One && r.Rule != Two:
		return invalid("approval", "there is no rule %q", r.Rule).WithRemedy("the rules are %v", Rules())
	case r.Set == nil || r.Content == nil || r.Old == nil:
		return errors.New("a proposal needs a change set, its content, and what it replaces")
	case len(r.Set.Rejected) > 0:
		return invalid("changes", "the change set is rejected: %v", r.Set.Rejected[0]).WithRemedy("propose changes without it")
	case len(r.Set.Changes) == 0:
		return invalid("changes", "nothing is changed").WithRemedy("propose something")
	case len(r.Evidence) > maxDocument || len(r.Evidence) > 0 && !json.Valid(r.Evidence):
		return invalid("evidence", "the evidence is no JSON, or over %d bytes", maxDocument)
	}
	return nil
}

func isName(s string) bool {
	return len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) })
}

// OldFrom opens what changes replace in a workspace.
func OldFrom(root *os.Root) sandbox.Content {
	return func(c sandbox.Change) (io.ReadCloser, error) {
		info, err := root.Lstat(filepath.FromSlash(c.Path))
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := root.Readlink(c.Path)
			return old{io.NopCloser(strings.NewReader(target)), true}, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no file", c.Path)
		}
		file, err := root.Open(c.Path)
		return old{file, false}, err
	}
}

// old is content that says whether it is the target of a link, which a change does
// not say of what it deletes.
type old struct {
	io.ReadCloser
	link bool
}

// IsLink is for what takes patches back, which asks the content.
func (o old) IsLink() bool { return o.link }

// Propose takes a change in, with its content. What needs an approval of its own is
// flagged here, whoever proposes it. What it returns is durable.
func (s *Service) Propose(ctx context.Context, r Proposal) (*Patch, error) {
	if r.Rule == "" {
		r.Rule = One
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	r.Set.Flag()
	s.proposing.RLock()
	defer s.proposing.RUnlock()
	contents, err := s.take(ctx, &r)
	if err != nil {
		return nil, err
	}
	risks, err := s.risks(r.Set)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	p := &Patch{
		ID: id.String(), Task: r.Task, Workspace: r.Workspace, Title: r.Title, Proposer: r.Proposer, Set: r.Set, Hash: Hash(r.Set), Base: baseOf(r.Set),
		Evidence: r.Evidence, Rule: r.Rule, Risks: risks, Supersedes: r.Supersedes,
	}
	for i := range r.Set.Changes {
		if c := &r.Set.Changes[i]; c.Op != sandbox.OpMkdir && !c.OldDir {
			p.Files++
			p.Bytes += c.Size
		}
	}
	return s.create(ctx, p, &r, contents)
}

// create stores a patch, and ends the one whose place it takes.
func (s *Service) create(ctx context.Context, p *Patch, r *Proposal, contents map[string]int64) (*Patch, error) {
	var known, ended *Patch
	var made, end Change
	err := s.store.Update(ctx, func(tx Tx) (err error) {
		known, ended = nil, nil
		if r.Key != "" {
			if known, err = tx.ByKey(ctx, r.Key); err != nil || known != nil {
				return err
			}
		}
		now := s.opt.Now()
		p.CreatedAt, p.Version, p.State = now.UTC(), 0, ""
		if made, err = p.move(StateProposed, Proposed, p.Proposer, "proposed", now); err != nil {
			return err
		}
		if err := tx.Create(ctx, p, r.Key, contents, made); err != nil || r.Supersedes == "" {
			return err
		}
		if ended, err = tx.Get(ctx, r.Supersedes); err != nil {
			return err
		}
		end, err = ended.supersede(p, p.Proposer, now)
		if err != nil {
			return err
		}
		return tx.Put(ctx, ended, end)
	})
	switch {
	case err != nil:
		return nil, err
	case known != nil:
		return known, nil
	case ended != nil:
		s.publish(ended, end)
	}
	s.publish(p, made)
	return p.clone(), nil
}

func (p *Patch) supersede(by *Patch, who string, now time.Time) (Change, error) {
	c, err := p.move(StateSuperseded, Superseded, who, "patch "+by.ID+" takes its place", now)
	p.SupersededBy = by.ID
	return c, err
}

// take copies the content of the changes into the store of content.
func (s *Service) take(ctx context.Context, r *Proposal) (map[string]int64, error) {
	kept, err := s.store.Kept(ctx)
	if err != nil {
		return nil, err
	}
	room := s.opt.MaxBytes - kept
	b := s.blobs.batch()
	for i := range r.Set.Changes {
		c := &r.Set.Changes[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c.Op == sandbox.OpAdd || c.Op == sandbox.OpModify {
			if err := copyIn(b, c, c.SHA256, r.Content, c.Size); err != nil {
				return nil, fmt.Errorf("%s: the new content: %w", c.Path, err)
			}
		}
		if c.OldSHA256 != "" && c.Op != sandbox.OpChmod {
			if err := copyIn(b, c, c.OldSHA256, r.Old, maxOld); err != nil {
				return nil, fmt.Errorf("%s: what it replaces: %w", c.Path, err)
			}
		}
	}
	for _, size := range b.sizes {
		room -= size
	}
	if room < 0 {
		return nil, sdk.Errorf(codes.ResourceExhausted, ReasonFull, "patches hold %d bytes at most, and with this one it would be %d more", s.opt.MaxBytes, -room).
			WithRemedy("decide about patches that wait, or wait until old ones are dropped")
	}
	return b.sizes, b.sync()
}

func copyIn(b *batch, c *sandbox.Change, hash string, from sandbox.Content, limit int64) error {
	r, err := from(*c)
	if err != nil {
		return err
	}
	return errors.Join(b.add(hash, r, limit), r.Close())
}

// Content opens what the changes of a patch put there.
func (s *Service) Content(p *Patch) sandbox.Content {
	return s.from(p, func(c *sandbox.Change) string { return c.SHA256 })
}

// OldContent opens what the changes of a patch replace.
func (s *Service) OldContent(p *Patch) sandbox.Content {
	return s.from(p, func(c *sandbox.Change) string { return c.OldSHA256 })
}

func (s *Service) from(p *Patch, hash func(*sandbox.Change) string) sandbox.Content {
	return func(c sandbox.Change) (io.ReadCloser, error) {
		r, err := s.blobs.open(hash(&c))
		if err != nil {
			return nil, dropped(p, err)
		}
		return r, nil
	}
}

// Diff is the patch as text for people, of at most about limit bytes.
func (s *Service) Diff(ctx context.Context, p *Patch, limit int) (string, error) {
	if p.Set == nil {
		return "", errors.New("a patch of a list has no changes")
	}
	if p.Dropped {
		return "", dropped(p, os.ErrNotExist)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	var text bytes.Buffer
	err := patchfile.Write(&text, p.Set, s.OldContent(p), s.Content(p), patchfile.Options{People: true, Limit: limit})
	return text.String(), err
}

// readAll reads a side of a change that is short enough to be looked into.
func readAll(from sandbox.Content, c *sandbox.Change, limit int64) ([]byte, error) {
	r, err := from(*c)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, limit))
	return slices.Clip(text), errors.Join(err, r.Close())
}
