package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sop-host/sop/plugins/internal/tree"
)

// forget deletes snapshots; both locks are held. When the stand-in of one has
// its name, it is deleted; the rest can be done by anybody at any time.
func (r *repository) forget(ids []string) error {
	for _, id := range ids {
		text, err := checked(r.standIn(id))
		if err != nil {
			return err
		}
		if err := r.replace(text, goneName(id)); err != nil {
			return err
		}
	}
	return r.finishDeletions()
}

// standIn is what is left of a snapshot.
func (r *repository) standIn(id string) gone {
	g := gone{DeletedAt: time.Now().UTC()}
	m, err := r.load(id)
	if err == nil {
		g.link, g.Parent = link{id, m.sum}, m.Parent
		return g
	}
	g.link, g.Unknown = link{ID: id}, true
	if claimed := r.claim(id); claimed != "" {
		g.SHA256 = claimed
	}
	return g
}

// claim is the sum that a snapshot must have by what follows it; empty if nothing
// says so.
func (r *repository) claim(id string) digest {
	var head link
	if err := r.readChecked(filepath.Join(snapshotDir, headFile), &head); err == nil && head.ID == id {
		return head.SHA256
	}
	l, err := r.list()
	if err != nil {
		return ""
	}
	for _, later := range l.live {
		if seqOf(later) <= seqOf(id) {
			continue
		}
		if m, err := r.load(later); err == nil && m.Parent != nil && m.Parent.ID == id {
			return m.Parent.SHA256
		}
	}
	for _, later := range l.gone {
		var g gone
		if err := r.readChecked(goneName(later), &g); err == nil && g.Parent != nil && g.Parent.ID == id {
			return g.Parent.SHA256
		}
	}
	return ""
}

// finishDeletions removes the manifests of snapshots that are deleted, and
// merges what stands for several in a row.
func (r *repository) finishDeletions() error {
	l, err := r.list()
	if err != nil {
		return err
	}
	for _, id := range l.gone {
		for _, name := range []string{manifestName(id), filepath.Join(pinsDir, id)} {
			if err := os.Remove(r.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := r.mergeGone(l); err != nil {
		return err
	}
	return syncDir(r.path(snapshotDir))
}

// mergeGone makes one stand-in of two neighbours, again and again. The younger
// then covers the older, which can go.
func (r *repository) mergeGone(l listing) error {
	for i := len(l.gone) - 1; i > 0; i-- {
		younger, older := gone{}, gone{}
		if r.readChecked(goneName(l.gone[i]), &younger) != nil || r.readChecked(goneName(l.gone[i-1]), &older) != nil {
			continue // damaged: it stays, to be seen
		}
		switch {
		case younger.Parent == nil && !younger.Unknown, younger.Parent != nil && seqOf(younger.Parent.ID) < seqOf(older.ID):
			// covered already, by a merge that was cut off
		case younger.Parent != nil && *younger.Parent == older.link:
			younger.Parent, younger.Unknown = older.Parent, older.Unknown
			text, err := checked(younger)
			if err != nil {
				return err
			}
			if err := r.replace(text, goneName(younger.ID)); err != nil {
				return err
			}
		default:
			continue
		}
		if err := os.Remove(r.path(goneName(older.ID))); err != nil {
			return err
		}
		l.gone[i-1] = l.gone[i]
	}
	return nil
}

// pinned says whether retention and deletion must leave a snapshot alone.
func (r *repository) pinned(id string) bool { return exists(r.path(pinsDir, id)) }

// pin protects a snapshot, or lifts the protection, durably; the commit lock is
// held.
func (r *repository) pin(id string, pinned bool) error {
	if pinned {
		return r.replace(nil, filepath.Join(pinsDir, id))
	}
	if err := os.Remove(r.path(pinsDir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(r.path(pinsDir))
}

// collect removes the objects that no snapshot needs and returns how many bytes
// that freed; the usage lock is held alone. While a manifest cannot be read
// nobody knows what it needs: then nothing is removed and note says so.
func (r *repository) collect(progress *tree.Progress) (freed int64, note string, err error) {
	needed, note, err := r.needed()
	if err != nil || note != "" {
		return 0, note, err
	}
	entries, err := os.ReadDir(r.path(objectsDir))
	if err != nil {
		return 0, "", err
	}
	for _, e := range entries {
		sum := digest(strings.TrimSuffix(e.Name(), gzipSuffix))
		if needed[sum] || !sum.valid() {
			continue
		}
		size := int64(0)
		if info, err := e.Info(); err == nil {
			size = info.Size()
		}
		if err := os.Remove(r.path(objectsDir, e.Name())); err != nil {
			return freed, "", err
		}
		freed += size
		if err := progress.Add(1, size); err != nil {
			return freed, "", err
		}
	}
	return freed, "", syncDir(r.path(objectsDir))
}

// needed is every object of a snapshot.
func (r *repository) needed() (map[digest]bool, string, error) {
	l, err := r.list()
	if err != nil {
		return nil, "", err
	}
	needed := make(map[digest]bool)
	for _, id := range l.live {
		m, err := r.load(id)
		if err != nil {
			note := "no space was freed: " + err.Error() + "; delete that snapshot to give its files up"
			return nil, note, nil //nolint:nilerr // the note says it
		}
		for _, e := range m.entries {
			if e.Type == tree.TypeFile {
				needed[digest(e.Object)] = true
			}
		}
	}
	return needed, "", nil
}
