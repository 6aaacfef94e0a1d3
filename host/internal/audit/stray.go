package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// An archive that the database does not know is the copy of what the store still
// has, where archiving was cut off. Or else the database is not the one that it was
// made from: it is older, because it was restored or rolled back, and has gone on
// from there. Such an archive holds records that are nowhere else, and its
// checkpoint proves that they were written.

// asideName is what an archive is called that was moved out of the way of those
// that the log writes.
func asideName(n int, file string) string { return fmt.Sprintf("aside-%d-%s", n, file) }

// isSegment says whether an archive has this name, and with which record it begins.
func isSegment(name string) (first uint64, ok bool) {
	var last uint64
	n, err := fmt.Sscanf(name, "audit-%d-%d.jsonl.gz", &first, &last)
	return first, err == nil && n == 2 && segmentName(first, last) == name
}

// isAside says whether name is one of [asideName].
func isAside(name string) bool {
	var n int
	var file string
	if _, err := fmt.Sscanf(name, "aside-%d-%s", &n, &file); err != nil || asideName(n, file) != name {
		return false
	}
	_, ok := isSegment(file)
	return ok
}

// Strays returns the archives that the database does not know and that the host's
// key has signed.
func (l *Log) Strays(ctx context.Context) ([]string, error) {
	l.moving.RLock()
	defer l.moving.RUnlock()
	known, err := l.Store.Archived(ctx)
	if err != nil {
		return nil, err
	}
	strays, err := l.Trail().strays(known, l.verifier)
	var files []string
	for _, c := range strays {
		files = append(files, c.file)
	}
	return files, err
}

// strays returns the checkpoints of archives that are not among those known. What
// key has not signed says nothing about this log.
func (t Trail) strays(known []Segment, key note.Verifier) (found []*Checkpoint, err error) {
	root, err := os.OpenRoot(t.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // a directory
	names, err := namesIn(root)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := isSegment(name); !ok && !isAside(name) {
			continue
		}
		if slices.ContainsFunc(known, func(s Segment) bool { return s.File == name }) {
			continue
		}
		if c := signedIn(root, name, key); c != nil {
			found = append(found, c)
		}
	}
	return found, nil
}

// signedIn returns the checkpoint at the end of an archive, or nil where there is
// none that key has signed.
func signedIn(root *os.Root, name string, key note.Verifier) *Checkpoint {
	f, err := root.Open(name)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	s, err := newSegmentReader(f)
	if err != nil {
		return nil
	}
	for n := uint64(1); err == nil; n++ {
		_, err = s.next(n)
	}
	if s.note == "" { // it does not end as it should
		return nil
	}
	c, err := OpenCheckpoint(s.note, key)
	if err != nil || c.Size != s.last {
		return nil
	}
	c.file = name
	return c
}

func namesIn(root *os.Root) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, dir.Close())
}

// sweep makes way for segments that begin after start. It removes what an attempt
// that was cut off has left: temporary files, and copies of what the store still
// has. All others are moved aside, since a segment may get their name.
func (l *Log) sweep(ctx context.Context, req ArchiveRequest, root *os.Root, start *Head) error {
	names, err := namesIn(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		bare := strings.TrimSuffix(strings.TrimPrefix(name, "."), ".tmp")
		first, ok := isSegment(bare)
		switch {
		case !ok || bare == name && first <= start.Size:
			continue
		case bare == name:
			copied, err := l.holds(ctx, start, signedIn(root, name, l.verifier))
			if err != nil {
				return err
			}
			if !copied {
				if err := l.putAside(ctx, req, root, name); err != nil {
					return err
				}
				continue
			}
		}
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether the store has, from start on, what an archive was signed for.
// c may be nil.
func (l *Log) holds(ctx context.Context, start *Head, c *Checkpoint) (bool, error) {
	if c == nil {
		return false, nil
	}
	head, hashes := *start, new(hasher)
	for r, err := range l.Store.Records(ctx, start.Size+1) {
		switch {
		case err != nil:
			return false, err
		case !hashes.follows(&head, r):
			return false, nil
		}
		if head.add(r.Hash); head.Size == c.Size {
			return head.Root() == c.Root, nil
		}
	}
	return false, nil
}

// putAside renames an archive that is not of this log, and records that.
func (l *Log) putAside(ctx context.Context, req ArchiveRequest, root *os.Root, name string) error {
	n := 1
	for ; ; n++ {
		if _, err := root.Lstat(asideName(n, name)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
	}
	if err := root.Rename(name, asideName(n, name)); err != nil {
		return err
	}
	err := fmt.Errorf("the archive is not of this log, whose database does not have its records: it was moved aside, to %s", asideName(n, name))
	l.OnError(fmt.Errorf("%s: %w", name, err))
	l.archiveFailed(ctx, req, name, err)
	return nil
}
