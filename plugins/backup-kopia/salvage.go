package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
)

// salvageVariant is the configuration file of repositories that are pieced together.
const salvageVariant = "-salvage"

// indexPrefixes begin the names of blobs that say where things are.
var indexPrefixes = []string{"x", "n", "m", "l"}

func isIndex(id blob.ID) bool {
	return slices.ContainsFunc(indexPrefixes, func(p string) bool { return strings.HasPrefix(string(id), p) })
}

func isFormat(id blob.ID) bool {
	return id == format.KopiaRepositoryBlobID || id == format.KopiaBlobCfgBlobID
}

// salvage pieces the repository together in memory: its format from the copies
// that records hold, and the index from the packs, each of which says what is in
// it. The storage is left as it is. As long as that stays the same, so does what
// was made of it.
func (r *repository) salvage(ctx context.Context, damage error) (*view, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of, err := fingerprint(ctx, r.store)
	if err != nil {
		return nil, err
	}
	if r.pieced == nil || r.piecedOf != of {
		if r.pieced, err = r.pieceTogether(ctx); err != nil {
			return nil, err
		}
		r.piecedOf, r.pieced.damage = of, damage
	}
	v := *r.pieced
	v.damage = damage
	return &v, nil
}

// stillDamaged is what was made of a repository that could not be opened, as long
// as nothing has changed in it: to try again costs a key derivation each time.
func (r *repository) stillDamaged(ctx context.Context) *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rep != nil || r.pieced == nil {
		return nil
	}
	if of, err := fingerprint(ctx, r.store); err != nil || of != r.piecedOf {
		return nil
	}
	v := *r.pieced
	return &v
}

// fingerprint tells whether a storage has changed.
func fingerprint(ctx context.Context, st blob.Lister) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = st.ListBlobs(ctx, "", func(m blob.Metadata) error {
		_, err := fmt.Fprintln(h, m.BlobID, m.Length, m.Timestamp.UnixNano())
		return err
	})
	h.Sum(sum[:0])
	return sum, err
}

func (r *repository) pieceTogether(ctx context.Context) (*view, error) {
	formats, err := r.formats(ctx)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, f := range formats {
		o := newOverlay(r.store, func(id blob.ID) bool { return isIndex(id) || isFormat(id) })
		f.show(o)
		rep, err := r.openOn(ctx, o, salvageVariant)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if err := recoverIndex(ctx, rep); err != nil {
			return nil, errors.Join(err, rep.Close(ctx))
		}
		return r.viewOf(rep, o)
	}
	return nil, errors.Join(failed, errors.New("no copy of its format can be read"))
}

// formatCopy is the blobs without which nothing can be read; nil: there is none.
type formatCopy struct{ repository, config []byte }

func (f formatCopy) show(o *overlay) {
	o.put(format.KopiaRepositoryBlobID, f.repository)
	if f.config != nil {
		o.put(format.KopiaBlobCfgBlobID, f.config)
	}
}

func (f formatCopy) equal(g formatCopy) bool {
	return string(f.repository) == string(g.repository) && string(f.config) == string(g.config)
}

// readFormat reads the blobs themselves.
func readFormat(ctx context.Context, st blob.Storage) (f formatCopy, err error) {
	if f.repository, err = readBlob(ctx, st, format.KopiaRepositoryBlobID, -1); err != nil {
		return f, err
	}
	f.config, err = readBlob(ctx, st, format.KopiaBlobCfgBlobID, -1)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return f, nil
	}
	return f, err
}

// formats are the blobs themselves and the copies, without repetition.
func (r *repository) formats(ctx context.Context) (all []formatCopy, err error) {
	f, err := readFormat(ctx, r.store)
	itself := err == nil
	if itself {
		all = append(all, f)
	}
	ids, err := recordIDs(ctx, r.store)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Backward(ids) {
		raw, err := readBlob(ctx, r.store, recordBlob(id), -1)
		if err != nil {
			continue // what is damaged has no copy
		}
		p, err := parseRecord(raw)
		if err != nil || slices.ContainsFunc(all, p.format.equal) || itself && all[0].supersedes(p.format) {
			continue
		}
		all = append(all, p.format)
	}
	return all, nil
}

// supersedes says that f is no damaged form of old but was written anew: so it is
// when the password has been changed, and an old one shall not open any more.
func (f formatCopy) supersedes(old formatCopy) bool {
	a, err := format.ParseKopiaRepositoryJSON(f.repository)
	b, oldErr := format.ParseKopiaRepositoryJSON(old.repository)
	if err != nil || oldErr != nil || string(a.UniqueID) != string(b.UniqueID) || len(a.EncryptedFormatBytes) != len(b.EncryptedFormatBytes) {
		return false
	}
	differing := 0
	for i := range a.EncryptedFormatBytes {
		if a.EncryptedFormatBytes[i] != b.EncryptedFormatBytes[i] {
			differing++
		}
	}
	return differing > len(a.EncryptedFormatBytes)/2
}

// recoverIndex makes an index of what the packs say is in them. A pack that says
// nothing any more is left out.
func recoverIndex(ctx context.Context, rep repo.DirectRepository) error {
	return repo.DirectWriteSession(ctx, rep, repo.WriteSessionOptions{Purpose: "salvage"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		w.DisableIndexRefresh()
		for _, prefix := range content.PackBlobIDPrefixes {
			packs, err := blob.ListAllBlobs(ctx, w.BlobReader(), prefix)
			if err != nil {
				return fmt.Errorf("list packs: %w", err)
			}
			for _, m := range packs {
				if err := ctx.Err(); err != nil {
					return err
				}
				_, _ = w.ContentManager().RecoverIndexFromPackBlob(ctx, m.BlobID, m.Length, true) // verify names it
			}
		}
		return nil
	})
}
