package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Trail is a whole log: what was archived to files, and what follows it in the
// store.
type Trail struct {
	Store Store
	// Dir holds the files of archived segments; it need not exist where nothing
	// was archived.
	Dir string
}

// openSegment opens the file of a segment. Names come from the database, and
// lead nowhere but into the directory.
func (t Trail) openSegment(s *Segment) (*os.File, error) {
	root, err := os.OpenRoot(t.Dir)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(s.File)
	return f, errors.Join(err, root.Close())
}

func archiveGone(s *Segment, cause error) error {
	return sdk.Errorf(codes.DataLoss, "AUDIT_ARCHIVE", "records %d to %d are in the archive %s, which cannot be read: %w", s.First, s.Last, s.File, cause).
		WithRemedy("bring the file back to logs/audit in the data directory; `sop audit archives` lists them all")
}

// Records returns the records from a sequence number on, wherever they are, as
// they stand there: nothing is checked. Records that are archived meanwhile are
// neither left out nor repeated.
func (t Trail) Records(ctx context.Context, from uint64) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		next := max(from, 1)
		for {
			segments, err := t.Store.Archived(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range segments {
				s := &segments[i]
				if s.Last >= next && !t.fromSegment(s, &next, yield) {
					return
				}
			}
			if more := t.fromStore(ctx, &next, yield); !more {
				return
			}
		}
	}
}

// fromSegment yields what an archive has from next on, and reports whether to
// go on.
func (t Trail) fromSegment(s *Segment, next *uint64, yield func(*Record, error) bool) bool {
	f, err := t.openSegment(s)
	if err != nil {
		yield(nil, archiveGone(s, err))
		return false
	}
	defer func() { _ = f.Close() }() // only read
	lines, err := newSegmentReader(f)
	if err != nil {
		yield(nil, archiveGone(s, err))
		return false
	}
	for n := uint64(1); ; n++ {
		r, err := lines.next(n)
		switch {
		case errors.Is(err, io.EOF) && lines.note != "":
			return true
		case err != nil:
			yield(nil, archiveGone(s, err))
			return false
		case r.Seq < *next:
			continue
		}
		*next = r.Seq + 1
		if !yield(r, nil) {
			return false
		}
	}
}

// fromStore yields what the store has from next on; it returns true when some
// of that was archived meanwhile.
func (t Trail) fromStore(ctx context.Context, next *uint64, yield func(*Record, error) bool) (again bool) {
	for r, err := range t.Store.Records(ctx, *next) {
		if err == nil && r.Seq > *next {
			again, err = t.movedBeyond(ctx, *next)
			if again {
				return true
			}
		}
		if !yield(r, err) || err != nil {
			return false
		}
		*next = r.Seq + 1
	}
	again, err := t.movedBeyond(ctx, *next)
	if err != nil {
		yield(nil, err)
	}
	return again
}

// movedBeyond says whether a record was archived.
func (t Trail) movedBeyond(ctx context.Context, seq uint64) (bool, error) {
	through, err := t.archivedThrough(ctx)
	return err == nil && through >= seq, err
}

// archivedThrough returns the last record that was archived, or 0.
func (t Trail) archivedThrough(ctx context.Context) (uint64, error) {
	segments, err := t.Store.Archived(ctx)
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	return segments[len(segments)-1].Last, nil
}

// Verify reads the whole log and checks it against itself and against every
// checkpoint in the store, in the archives, also those that the database does not
// know, and those given.
func (t Trail) Verify(ctx context.Context, key note.Verifier, also ...string) (*Report, error) {
	for tries := 0; ; tries++ {
		before, err := t.archivedThrough(ctx)
		if err != nil {
			return nil, err
		}
		report, err := t.verify(ctx, key, also)
		if err != nil || report.Fault == nil || tries == maxMoves {
			return report, err
		}
		after, err := t.archivedThrough(ctx)
		if err != nil || after == before {
			return report, err
		}
	}
}

// maxMoves is how often a verification begins anew because another process
// archived meanwhile.
const maxMoves = 3

func (t Trail) verify(ctx context.Context, key note.Verifier, also []string) (*Report, error) {
	segments, err := t.Store.Archived(ctx)
	if err != nil {
		return nil, err
	}
	strays, err := t.strays(segments, key)
	if err != nil {
		return nil, err
	}
	kept, err := t.Store.Checkpoints(ctx) // before the head: nothing of them is ahead of it
	if err != nil {
		return nil, err
	}
	head, err := t.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	limit := head.Size
	notes := append([]string(nil), also...)
	for _, c := range kept {
		notes = append(notes, c.Note)
		limit = max(limit, c.Size) // a head that claims less is not believed
	}
	v := &verifier{known: &head, signed: strays}
	if !v.open(notes, key) {
		return &v.report, nil
	}
	for i := range segments {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !t.verifySegment(v, &segments[i], key) {
			return &v.report, nil
		}
		v.report.Archived = segments[i].Last
	}
	if err := t.verifyStore(ctx, v, limit); err != nil {
		return nil, err
	}
	return &v.report, nil
}

// verifySegment verifies an archive, its file included.
func (t Trail) verifySegment(v *verifier, s *Segment, key note.Verifier) bool {
	if v.strange == nil && s.First != v.head.Size+1 {
		return v.fault(v.head.Size+1, max(s.First, 1)-1, Missing, "the archive %s begins with record %d, and record %d is in none", s.File, s.First, v.head.Size+1)
	}
	name := "archive " + s.File
	f, err := t.openSegment(s)
	if errors.Is(err, fs.ErrNotExist) {
		return v.fault(s.First, s.Last, Missing, "%s with records %d to %d is missing", name, s.First, s.Last)
	}
	if err != nil {
		return v.fault(s.First, s.Last, Missing, "%s with records %d to %d cannot be opened: %v", name, s.First, s.Last, err)
	}
	defer func() { _ = f.Close() }() // only read
	sum := summed{f, sha256.New()}
	lines, err := newSegmentReader(sum)
	if err != nil {
		return v.fault(s.First, s.Last, Edited, "%s: %v", name, err)
	}
	if lines.before.Size+1 != s.First || lines.last != s.Last {
		return v.fault(s.First, s.Last, Missing, "%s holds records %d to %d, and not %d to %d", name, lines.before.Size+1, lines.last, s.First, s.Last)
	}
	if !v.segment(lines, key, name) {
		return false
	}
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return v.fault(s.First, s.Last, Edited, "%s: %v", name, err)
	}
	if Hash(sum.hash.Sum(nil)) != s.Sum && v.strange == nil {
		return v.fault(s.First, s.Last, Edited, "%s is not the file that was written, though its records are those that were", name)
	}
	if v.strange == nil && (s.End.Last != v.head.Last || s.End.Root() != v.head.Root()) {
		return v.fault(s.First, s.Last, Edited, "what the database remembers of %s is not what it holds", name)
	}
	return true
}

// summed hashes what is read.
type summed struct {
	from io.Reader
	hash hash.Hash
}

// Read implements io.Reader.
func (s summed) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.hash.Write(p[:n])
	return n, err
}

// verifyStore goes on with what is in the store.
func (t Trail) verifyStore(ctx context.Context, v *verifier, limit uint64) error {
	if v.strange == nil {
		before := *v
		if all, err := t.verifyQuickly(ctx, v, limit); err != nil || v.report.Fault != nil {
			return err
		} else if !all {
			*v = before
		}
	}
	from := v.head.Size + 1
	if v.head.Size == v.report.Archived {
		from = 1 // all that there is, so that nothing hides before its beginning
	}
	for r, err := range t.upTo(ctx, from, v.head.Size, limit) {
		if err != nil {
			return err
		}
		if !v.record(r) {
			return nil
		}
	}
	if v.strange == nil {
		v.end()
	} else {
		v.blame(nil)
	}
	return nil
}

// verifyQuickly takes in the store and says whether it is all as it was written. If
// not, or if it cannot judge it, reading record by record says what it is.
func (t Trail) verifyQuickly(ctx context.Context, v *verifier, limit uint64) (all bool, err error) {
	source, ok := t.Store.(quick)
	if !ok {
		return false, nil
	}
	for digests, err := range source.Digests(ctx) {
		if err != nil {
			return false, ctx.Err() // whatever it is, the ordinary way meets it too
		}
		for i := range digests {
			if v.head.Size >= limit {
				return digests[i].Seq > limit, nil
			}
			if ok, err := t.take(ctx, v, &digests[i]); !ok || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// take takes in one digest, if it is the next record as it was written.
func (t Trail) take(ctx context.Context, v *verifier, d *Digest) (bool, error) {
	if d.Unread {
		whole, err := t.digest(ctx, d.Seq)
		if err != nil || whole == nil {
			return false, err
		}
		d = whole
	}
	if d.Seq != v.head.Size+1 || d.Sum != d.Said || d.Prev != v.head.Last {
		return false, nil
	}
	v.head.add(d.Sum)
	v.report.Records = v.head.Size
	return v.compare(), nil
}

// digest reads one record as a whole; nil says that it is not there alone, or that
// something stands between it and the one that follows.
func (t Trail) digest(ctx context.Context, seq uint64) (*Digest, error) {
	if seq == 0 {
		return nil, nil
	}
	page, err := t.Store.List(ctx, Filter{After: seq - 1, Oldest: true, Limit: 3})
	if err != nil || len(page.Records) == 0 {
		return nil, err
	}
	for i, r := range page.Records {
		if r.Seq != seq+uint64(i) {
			return nil, nil
		}
	}
	r := page.Records[0]
	return &Digest{Seq: r.Seq, Prev: r.PrevHash, Said: r.Hash, Sum: new(hasher).hash(r)}, nil
}

// upTo returns the records of the store from one on, of which have been seen so
// many already, and leaves out what has been appended beyond limit meanwhile.
// What nobody has appended it does not leave out.
func (t Trail) upTo(ctx context.Context, from, seen, limit uint64) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		n := seen
		for r, err := range t.Store.Records(ctx, from) {
			if err == nil && n == limit && r.Seq == limit+1 {
				now, headErr := t.Store.Head(ctx)
				if headErr == nil && now.Size > limit {
					return
				}
				err = headErr
			}
			n++
			if !yield(r, err) {
				return
			}
		}
	}
}
