package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// FromJournal is where old content comes from that lay beside the tree: it is the
// old files themselves.
const FromJournal = "journal"

// A Copy is a place beside the journal where what was replaced is kept.
type Copy struct {
	Name string // for people and records, such as "backup 0199f3c2-…"
	// Open makes the content readable until close is called. It is called when the
	// content is needed, once. What is opened may have a method IsLink() bool, which
	// says whether it is the target of a link.
	Open func(ctx context.Context) (content sandbox.Content, close func() error, err error)
}

// damagedError says that a copy is not there, or is not what was replaced.
type damagedError struct{ why string }

// Error implements error.
func (e damagedError) Error() string { return e.why }

// damaged names what is wrong with the copies in the slots of an integration that
// is done; "" where they are what was replaced. Nothing is touched.
func (w *work) damaged(p *plan) (string, error) {
	for i := range p.Steps {
		s := &p.Steps[i]
		if m := s.move(); m != swap && m != take {
			continue
		}
		slot, err := w.slot(s).look()
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", s.Path, err)
		case slot.kind == missing:
			return "the copy of " + s.Path + " is gone", nil
		case !slot.isBefore(&s.Change):
			return fmt.Sprintf("the copy of %s is %s, and not what was replaced", s.Path, slot), nil
		}
	}
	return "", nil
}

// An opened is a copy that is read from.
type opened struct {
	ctx     context.Context //nolint:containedctx // of one call
	copy    *Copy
	content sandbox.Content
	done    func() error
	used    bool
}

// readKind is read that says whether it was a link, too. Where neither change nor
// copy does, it was one that has the mode of links, which hardly a file has, and can
// be a target.
func (o *opened) readKind(c *sandbox.Change) (text []byte, isLink bool, err error) {
	text, err = o.read(c)
	if err != nil || c.Op != sandbox.OpDelete || c.OldMode != linkMode {
		return text, c.Op == sandbox.OpSymlink, err
	}
	from, err := o.content(*c)
	if err != nil {
		return nil, false, o.fault(c.Path, err)
	}
	if kinded, ok := from.(interface{ IsLink() bool }); ok {
		return text, kinded.IsLink(), from.Close()
	}
	return text, len(text) > 0 && len(text) < unix.PathMax && !bytes.ContainsAny(text, "\x00\n"), from.Close()
}

// linkMode is the mode of all links.
const linkMode = 0o777

// read returns the old content of a change, which has its hash. The error is a
// damagedError where the copy is at fault.
func (o *opened) read(c *sandbox.Change) ([]byte, error) {
	o.used = true
	if o.copy == nil {
		return nil, damagedError{"nothing else is kept"}
	}
	if o.content == nil {
		content, done, err := o.copy.Open(o.ctx)
		if err != nil {
			return nil, o.fault("", err)
		}
		o.content, o.done = content, done
	}
	text, err := readAll(o.content, c, c.OldSHA256)
	if err != nil {
		return nil, o.fault(c.Path, err)
	}
	return text, nil
}

// fault says what is wrong with the copy, unless the caller has had enough.
func (o *opened) fault(path string, err error) error {
	if o.ctx.Err() != nil {
		return o.ctx.Err()
	}
	why := sdk.FromError(err).Message
	if path != "" {
		why = path + ": " + why
	}
	return damagedError{why}
}

func (o *opened) close() error {
	if o.done == nil {
		return nil
	}
	return o.done()
}

// readAll reads content that has the hash.
func readAll(from sandbox.Content, c *sandbox.Change, hash string) ([]byte, error) {
	r, err := from(*c)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if hashOf(string(text)) != hash {
		return nil, errors.New("it is damaged")
	}
	return text, nil
}

// copiesLost says why nothing can be put back: what is wrong with each copy.
func copiesLost(id string, why []string) error {
	return sdk.Errorf(codes.DataLoss, ReasonCopies, "what %s replaced cannot be put back: %s", id, strings.Join(why, "; ")).
		WithRemedy("nothing was changed; look for another backup that has the files (sop backup list), or take the changes back by hand: sop patch show %s", id)
}
