package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/plugins/internal/tree"
)

const (
	directoryStream = "kopia:directory"
	// directoryPrefix begins the object ids of directories.
	directoryPrefix = "k"
	// metadataCompression is kopia's own for directories.
	metadataCompression = compression.Name("zstd-fastest")
)

// dirManifest is a directory as kopia stores it. What it has no place for stands
// in members that it passes over.
type dirManifest struct {
	StreamType string                    `json:"stream"`
	Entries    []*dirEntry               `json:"entries"`
	Summary    *kopiafs.DirectorySummary `json:"summary"`
	// Special are the pipes, sockets and devices.
	Special []*tree.Entry `json:"sop-special,omitempty"`
	// Snapshot describes the whole; only the root has it.
	Snapshot *description `json:"sop-snapshot,omitempty"`
}

// dirEntry is an entry of a directory.
type dirEntry struct {
	snapshot.DirEntry
	More *more `json:"sop,omitempty"`
}

// more is what kopia has no place for.
type more struct {
	Sparse   bool          `json:"sparse,omitempty"`
	Extents  []tree.Extent `json:"extents,omitempty"`
	HardLink tree.Path     `json:"hard_link,omitempty"`
	Xattrs   []tree.Xattr  `json:"xattrs,omitempty"`
	Ancestor bool          `json:"ancestor,omitempty"`
	// Modified is the time of modification where it is none that kopia can tell.
	Modified *tree.Stamp `json:"modified,omitempty"`
}

func moreOf(e *tree.Entry) *more {
	m := &more{Sparse: e.Sparse, Extents: e.Extents, HardLink: e.HardLink, Xattrs: e.Xattrs, Ancestor: e.Ancestor}
	if stampOf(kopiaTime(e.Modified)) != e.Modified {
		m.Modified = &e.Modified
	}
	if !m.Sparse && m.HardLink == "" && len(m.Xattrs) == 0 && !m.Ancestor && m.Modified == nil {
		return nil
	}
	return m
}

// kopiaTime is a time as kopia tells it, in nanoseconds since 1970.
func kopiaTime(s tree.Stamp) kopiafs.UTCTimestamp {
	return kopiafs.UTCTimestamp(s[0]*1e9 + s[1])
}

func stampOf(t kopiafs.UTCTimestamp) tree.Stamp {
	u := t.ToTime()
	return tree.Stamp{u.Unix(), int64(u.Nanosecond())}
}

// permissions are those of an entry in the bits that kopia uses, which are Go's.
func permissions(mode tree.Octal) snapshot.Permissions {
	p := fs.FileMode(mode & 0o777)
	for bit, flag := range modeBits {
		if uint32(mode)&bit != 0 {
			p |= flag
		}
	}
	return snapshot.Permissions(p)
}

func octal(p snapshot.Permissions) tree.Octal {
	mode := tree.Octal(p & 0o777)
	for bit, flag := range modeBits {
		if fs.FileMode(p)&flag != 0 {
			mode |= tree.Octal(bit)
		}
	}
	return mode
}

var modeBits = map[uint32]fs.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky}

// dirWriter writes the directories of a snapshot.
type dirWriter struct {
	w    repo.RepositoryWriter
	desc *description
	root tree.Entry
	// children of each directory, by its path; "." is the root.
	children map[tree.Path][]*tree.Entry
}

// writeDirectories writes the directories above the entries, which have
// directories before what is in them, and returns the entry of the root.
func writeDirectories(ctx context.Context, w repo.RepositoryWriter, desc *description, root tree.Entry, entries []*tree.Entry) (*snapshot.DirEntry, error) {
	d := &dirWriter{w: w, desc: desc, root: root, children: make(map[tree.Path][]*tree.Entry)}
	for _, e := range entries {
		d.children[e.Path.Dir()] = append(d.children[e.Path.Dir()], e)
	}
	e, err := d.write(ctx, &d.root)
	if err != nil {
		return nil, err
	}
	return &e.DirEntry, nil
}

// write writes a directory and those in it, and returns its entry.
func (d *dirWriter) write(ctx context.Context, dir *tree.Entry) (*dirEntry, error) {
	m := &dirManifest{StreamType: directoryStream, Summary: &kopiafs.DirectorySummary{TotalDirCount: 1, MaxModTime: kopiaTime(dir.Modified)}}
	if dir == &d.root {
		m.Snapshot = d.desc
		for _, f := range d.desc.Failures {
			m.Summary.FatalErrorCount++
			if len(m.Summary.FailedEntries) < kopiafs.MaxFailedEntriesPerDirectorySummary {
				m.Summary.FailedEntries = append(m.Summary.FailedEntries, &kopiafs.EntryWithError{EntryPath: escape(string(f.Path)), Error: f.Message})
			}
		}
	}
	for _, e := range d.children[dir.Path] {
		if err := d.add(ctx, m, e); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(m.Entries, func(a, b *dirEntry) int { return cmp.Compare(a.Name, b.Name) })
	id, err := d.put(ctx, dir.Path, m)
	if err != nil {
		return nil, err
	}
	out := entryFor(dir, snapshot.EntryTypeDirectory, id)
	out.DirSummary = m.Summary
	return out, nil
}

// add puts an entry into its directory.
func (d *dirWriter) add(ctx context.Context, m *dirManifest, e *tree.Entry) error {
	s := m.Summary
	s.MaxModTime = max(s.MaxModTime, kopiaTime(e.Modified))
	switch e.Type {
	case tree.TypeDir:
		sub, err := d.write(ctx, e)
		if err != nil {
			return err
		}
		m.Entries = append(m.Entries, sub)
		s.TotalDirCount += sub.DirSummary.TotalDirCount
		s.TotalFileCount += sub.DirSummary.TotalFileCount
		s.TotalFileSize += sub.DirSummary.TotalFileSize
		s.TotalSymlinkCount += sub.DirSummary.TotalSymlinkCount
		s.MaxModTime = max(s.MaxModTime, sub.DirSummary.MaxModTime)
	case tree.TypeFile:
		id, err := object.ParseID(e.Object)
		if err != nil {
			return fmt.Errorf("%q: %w", string(e.Path), err)
		}
		m.Entries = append(m.Entries, entryFor(e, snapshot.EntryTypeFile, id))
		s.TotalFileCount++
		s.TotalFileSize += e.Size
	case tree.TypeSymlink:
		id, err := writeObject(ctx, d.w, "LINK:"+escape(string(e.Path)), "", "", func(w io.Writer) error { _, err := io.WriteString(w, string(e.Target)); return err })
		if err != nil {
			return err
		}
		link := entryFor(e, snapshot.EntryTypeSymlink, id)
		link.FileSize = int64(len(e.Target))
		m.Entries = append(m.Entries, link)
		s.TotalSymlinkCount++
	default:
		special := *e
		special.Accessed = tree.Stamp{} // it would make another directory of the same
		m.Special = append(m.Special, &special)
	}
	return nil
}

func entryFor(e *tree.Entry, kind snapshot.EntryType, id object.ID) *dirEntry {
	return &dirEntry{snapshot.DirEntry{
		Name: escape(e.Path.Base()), Type: kind, Permissions: permissions(e.Mode), FileSize: e.Size, ModTime: kopiaTime(e.Modified),
		UserID: e.UID, GroupID: e.GID, ObjectID: id,
	}, moreOf(e)}
}

func (d *dirWriter) put(ctx context.Context, p tree.Path, m *dirManifest) (object.ID, error) {
	return writeObject(ctx, d.w, "DIR:"+escape(string(p)), directoryPrefix, metadataCompression, func(w io.Writer) error { return json.NewEncoder(w).Encode(m) })
}

// writeObject writes one object.
func writeObject(ctx context.Context, w repo.RepositoryWriter, what, prefix string, comp compression.Name, fill func(io.Writer) error) (object.ID, error) {
	o := w.NewObjectWriter(ctx, object.WriterOptions{Description: what, Prefix: idPrefix(prefix), Compressor: comp, MetadataCompressor: metadataCompression})
	err := fill(o)
	var id object.ID
	if err == nil {
		id, err = o.Result()
	}
	return id, errors.Join(err, o.Close())
}

// readTree reads the directories of kopia. What cannot be read is a failure of
// its path; description is nil where the root has none.
func (v *view) readTree(ctx context.Context, root object.ID) (desc *description, entries []*tree.Entry, failed []tree.Failure, err error) {
	m, err := v.readDirectory(ctx, root)
	if err != nil {
		return nil, nil, nil, err
	}
	r := &treeReader{view: v}
	if err := r.take(ctx, ".", m); err != nil {
		return nil, nil, nil, err
	}
	r.entries, r.failed = tree.Orphans(r.entries, r.failed)
	return m.Snapshot, r.entries, r.failed, tree.CheckEntries(r.entries)
}

func (v *view) readDirectory(ctx context.Context, id object.ID) (*dirManifest, error) {
	r, err := v.rep.OpenObject(ctx, id)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was read only
	m := &dirManifest{}
	if err := json.NewDecoder(r).Decode(m); err != nil {
		return nil, err
	}
	if m.StreamType != directoryStream {
		return nil, errors.New("it is no directory of kopia")
	}
	return m, nil
}

// treeReader collects entries, directories before what is in them.
type treeReader struct {
	*view
	entries []*tree.Entry
	failed  []tree.Failure
}

func (r *treeReader) take(ctx context.Context, dir tree.Path, m *dirManifest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, e := range m.Special {
		if err := e.Check(); err != nil {
			return err
		}
		e.Accessed = e.Modified
		r.entries = append(r.entries, e)
	}
	for _, de := range m.Entries {
		e := de.entry(dir)
		if err := e.Check(); err != nil && e.Type != tree.TypeSymlink {
			return err
		}
		switch e.Type {
		case tree.TypeSymlink:
			target, err := r.readSmall(ctx, de.ObjectID)
			if err != nil {
				r.failed = append(r.failed, tree.Failure{Path: e.Path, Message: lost(err)})
				continue
			}
			e.Target = tree.Path(target)
		case tree.TypeDir:
			sub, err := r.readDirectory(ctx, de.ObjectID)
			if err != nil {
				r.failed = append(r.failed, tree.Failure{Path: e.Path, Message: "what is in it is not known: " + err.Error()})
				continue
			}
			r.entries = append(r.entries, e)
			if err := r.take(ctx, e.Path, sub); err != nil {
				return err
			}
			continue
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

// readSmall reads an object into memory.
func (v *view) readSmall(ctx context.Context, id object.ID) ([]byte, error) {
	r, err := v.rep.OpenObject(ctx, id)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was read only
	return io.ReadAll(io.LimitReader(r, 1<<20))
}

func lost(err error) string { return "its content cannot be read: " + err.Error() }

// entry converts an entry of kopia's.
func (de *dirEntry) entry(dir tree.Path) *tree.Entry {
	e := &tree.Entry{
		Path: tree.Path(path.Join(string(dir), unescape(de.Name))), Mode: octal(de.Permissions), UID: de.UserID, GID: de.GroupID,
		Modified: stampOf(de.ModTime),
	}
	switch de.Type {
	case snapshot.EntryTypeFile:
		e.Type, e.Size, e.Object = tree.TypeFile, de.FileSize, de.ObjectID.String()
	case snapshot.EntryTypeDirectory:
		e.Type = tree.TypeDir
	case snapshot.EntryTypeSymlink:
		e.Type = tree.TypeSymlink
	}
	if m := de.More; m != nil {
		e.Sparse, e.Extents, e.HardLink, e.Xattrs, e.Ancestor = m.Sparse, m.Extents, m.HardLink, m.Xattrs, m.Ancestor
		if m.Modified != nil {
			e.Modified = *m.Modified
		}
	}
	e.Accessed = e.Modified
	return e
}
