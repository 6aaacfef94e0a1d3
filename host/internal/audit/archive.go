package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// ActionArchive is the action of the record that says that a segment was moved
// to an archive, or could not be.
const ActionArchive = "audit.archive"

// ArchiveRequest says what to move to archives.
type ArchiveRequest struct {
	Actor string
	// Before moves only what is older than this.
	Before time.Time
	// Size is how many records a segment has; it ends at a checkpoint, so that
	// it may have fewer, or more where none is signed that often.
	Size uint64
	// Partial moves a last segment that is smaller, too.
	Partial bool
	// DryRun only says what would be moved.
	DryRun bool
}

// Bounds of the size of a segment.
const (
	MinSegment     = 1000
	DefaultSegment = 100_000
	MaxSegment     = 1_000_000
)

// Archives returns the segments that were archived, in order.
func (l *Log) Archives(ctx context.Context) ([]Segment, error) { return l.Store.Archived(ctx) }

// ArchivedThrough returns the last record that was archived, or 0.
func (l *Log) ArchivedThrough(ctx context.Context) (uint64, error) {
	return l.Trail().archivedThrough(ctx)
}

// Archive moves whole segments to files: each is written, synced, read back and
// verified, and only then left out of the store, in the transaction that records
// it; what the store still holds of it is removed after that, in pieces, by
// whoever archives next if need be. It returns the segments that were moved,
// also with an error. A crash at any point leaves a record in the store, in a
// file, or in both.
func (l *Log) Archive(ctx context.Context, req ArchiveRequest) ([]Segment, error) {
	l.moving.Lock()
	defer l.moving.Unlock()
	if req.Size == 0 {
		req.Size = DefaultSegment
	}
	if req.Size > MaxSegment {
		return nil, sdk.Errorf(codes.InvalidArgument, "AUDIT_SEGMENT", "a segment has at most %d records", MaxSegment)
	}
	if !req.DryRun {
		if err := l.remove(ctx); err != nil { // what a crash has left
			return nil, err
		}
	}
	planned, start, err := l.plan(ctx, req)
	if err != nil || req.DryRun || len(planned) == 0 {
		return planned, err
	}
	var moved []Segment
	for i := range planned {
		s := &planned[i]
		if err := l.move(ctx, req, &start, s); err != nil {
			l.archiveFailed(ctx, req, s.File, err)
			return moved, err
		}
		moved = append(moved, *s)
	}
	return moved, nil
}

func (l *Log) archiveFailed(ctx context.Context, req ArchiveRequest, file string, cause error) {
	err := l.Append(context.WithoutCancel(ctx), Record{
		Actor: req.Actor, Action: ActionArchive, Resource: "audit/" + file, Outcome: Failure, Reason: cause.Error(),
	})
	if err != nil {
		l.OnError(fmt.Errorf("record what befell %s: %w", file, err))
	}
}

// plan cuts what may be moved into segments that end at checkpoints, and
// returns where the first begins.
func (l *Log) plan(ctx context.Context, req ArchiveRequest) ([]Segment, Head, error) {
	var start Head
	segments, err := l.Store.Archived(ctx)
	if err != nil {
		return nil, start, err
	}
	if n := len(segments); n > 0 {
		start = segments[n-1].End
	}
	limit, err := l.Store.Before(ctx, req.Before)
	if err != nil {
		return nil, start, err
	}
	signed, err := l.Store.Checkpoints(ctx)
	if err != nil {
		return nil, start, err
	}
	var planned []Segment
	for from := start.Size; ; {
		end := segmentEnd(signed, from, limit, req)
		if end == nil {
			return planned, start, nil
		}
		planned = append(planned, Segment{First: from + 1, Last: end.Size, File: segmentName(from+1, end.Size), Note: end.Note})
		from = end.Size
	}
}

// segmentEnd returns the checkpoint at which a segment after from ends: the
// last within its size, or else the first beyond it.
func segmentEnd(signed []*Checkpoint, from, limit uint64, req ArchiveRequest) *Checkpoint {
	var end *Checkpoint
	for _, c := range signed {
		if c.Size <= from || c.Size > limit {
			continue
		}
		if c.Size > from+req.Size && end != nil {
			break
		}
		end = c
		if c.Size >= from+req.Size {
			break
		}
	}
	if !req.Partial && limit < from+req.Size {
		return nil
	}
	return end
}

// archiveStep is told each step of moving a segment; tests stop there.
var archiveStep = func(string) {}

// move writes a segment that begins at start, and moves start to its end.
func (l *Log) move(ctx context.Context, req ArchiveRequest, start *Head, s *Segment) error {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return cannotArchive(err)
	}
	root, err := os.OpenRoot(l.Dir)
	if err != nil {
		return cannotArchive(err)
	}
	defer func() { _ = root.Close() }() // a directory
	if err := l.sweep(ctx, req, root, start); err != nil {
		return cannotArchive(err)
	}
	archiveStep("begun")
	head := *start
	temp := "." + s.File + ".tmp"
	if err := l.write(ctx, root, temp, &head, s); err != nil {
		return errors.Join(err, ignoreMissing(root.Remove(temp)))
	}
	archiveStep("written")
	if err := l.readBack(root, temp, s); err != nil {
		return errors.Join(err, ignoreMissing(root.Remove(temp)))
	}
	archiveStep("checked")
	if err := root.Rename(temp, s.File); err != nil {
		return cannotArchive(err)
	}
	archiveStep("renamed")
	if err := syncDir(l.Dir); err != nil {
		return cannotArchive(err)
	}
	archiveStep("named")
	s.End, s.At = head, time.Now().UTC()
	if err := l.Store.Archive(ctx, s, archiveRecord(req, s)); err != nil {
		return err // the file is a copy, which the next attempt replaces
	}
	archiveStep("remembered")
	*start = head
	if err := l.remove(ctx); err != nil {
		// The segment was moved all the same; the next who archives goes on.
		l.OnError(fmt.Errorf("remove archived records: %w", err))
	}
	archiveStep("removed")
	return nil
}

// remove removes from the store what was archived.
func (l *Log) remove(ctx context.Context) error {
	for {
		more, err := l.Store.Remove(ctx)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		archiveStep("removing")
	}
}

func archiveRecord(req ArchiveRequest, s *Segment) Record {
	return Record{
		Actor: req.Actor, Action: ActionArchive, Resource: "audit/" + s.File, Outcome: Success,
		Reason: fmt.Sprintf("records %d to %d were moved to an archive", s.First, s.Last),
		Attributes: map[string]string{
			"first": strconv.FormatUint(s.First, 10), "last": strconv.FormatUint(s.Last, 10), "bytes": strconv.FormatInt(s.Bytes, 10),
			"sha256": s.Sum.String(), "root": s.End.Root().String(), "last_hash": s.End.Last.String(),
		},
	}
}

func cannotArchive(cause error) error {
	return sdk.Errorf(codes.Unavailable, "AUDIT_ARCHIVE_WRITE", "the segment cannot be written: %w", cause).
		WithRemedy("make room in, or give access to, logs/audit in the data directory; nothing was removed from the log")
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// wrapFile lets tests fail what is written.
var wrapFile = func(w io.Writer) io.Writer { return w }

// write writes a segment to a file and verifies on the way that it follows
// head, which it moves, and is what its checkpoint was signed for.
func (l *Log) write(ctx context.Context, root *os.Root, name string, head *Head, s *Segment) (err error) {
	signed, err := OpenCheckpoint(s.Note, l.verifier)
	if err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return cannotArchive(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	size := &counted{}
	w, err := newSegmentWriter(io.MultiWriter(wrapFile(f), sum, size), head, s.Last)
	if err != nil {
		return cannotArchive(err)
	}
	if err := l.writeRecords(ctx, w, head, s); err != nil {
		return err
	}
	if signed.Size != s.Last || signed.Root != head.Root() {
		return notVerified("records %d to %d are not those that were signed", s.First, s.Last)
	}
	if err := w.finish(s.Note); err != nil {
		return cannotArchive(err)
	}
	if err := f.Sync(); err != nil {
		return cannotArchive(err)
	}
	s.Sum, s.Bytes = Hash(sum.Sum(nil)), size.n
	return nil
}

func (l *Log) writeRecords(ctx context.Context, w *segmentWriter, head *Head, s *Segment) error {
	hashes := new(hasher)
	for r, err := range l.Store.Records(ctx, s.First) {
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case err != nil:
			return err
		case !hashes.follows(head, r):
			return notVerified("record %d is not what was written there", head.Size+1)
		}
		if err := JSONL.Write(w.buf, r); err != nil {
			return cannotArchive(err)
		}
		head.add(r.Hash)
		if s.From.IsZero() {
			s.From = r.Time
		}
		s.Until = r.Time
		if head.Size == s.Last {
			return nil
		}
	}
	return notVerified("record %d is not there", head.Size+1)
}

// follows says whether a record is the next after head, as it was written.
func (h *hasher) follows(head *Head, r *Record) bool {
	return r.Seq == head.Size+1 && r.PrevHash == head.Last && h.hash(r) == r.Hash
}

func notVerified(format string, args ...any) error {
	return sdk.Errorf(codes.DataLoss, "AUDIT_DAMAGED", "the log does not verify and is not archived: "+format, args...).
		WithRemedy("see what is wrong with: sop audit verify")
}

// readBack verifies a file that was written, as a stranger would.
func (l *Log) readBack(root *os.Root, name string, s *Segment) error {
	f, err := root.Open(name)
	if err != nil {
		return cannotArchive(err)
	}
	defer func() { _ = f.Close() }() // only read
	sum := summed{f, sha256.New()}
	report, err := VerifySegment(sum, nil, l.verifier)
	if err != nil {
		return cannotArchive(err)
	}
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return cannotArchive(err)
	}
	if report.Fault != nil || report.Head.Size != s.Last || Hash(sum.hash.Sum(nil)) != s.Sum {
		return cannotArchive(fmt.Errorf("what was written does not read back: %+v", report.Fault))
	}
	return nil
}

// counted counts what is written.
type counted struct{ n int64 }

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// retentionEvery is how often what is too old is looked for.
const retentionEvery = time.Hour

// Retain archives what is older than keep, in whole segments, now and then,
// until ctx is done. rule is asked each time; keep 0 archives nothing. A failure
// is told to OnError.
func (l *Log) Retain(ctx context.Context, changed func() <-chan struct{}, rule func() (keep time.Duration, segment uint64)) {
	l.moving.Lock()
	err := l.remove(ctx) // what a crash has left
	l.moving.Unlock()
	if err != nil && ctx.Err() == nil {
		l.OnError(fmt.Errorf("remove archived records: %w", err))
	}
	tick := time.NewTicker(retentionEvery)
	defer tick.Stop()
	for {
		wake := changed()
		if keep, segment := rule(); keep > 0 {
			req := ArchiveRequest{Actor: "host", Before: time.Now().Add(-keep), Size: segment}
			if _, err := l.Archive(ctx, req); err != nil && ctx.Err() == nil {
				l.OnError(fmt.Errorf("archive audit records: %w", err))
			}
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
