package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/backup"
)

const (
	// verifiers is how many contents are read at once.
	verifiers = 8
	// maintenanceBlob is where kopia keeps when maintenance is due.
	maintenanceBlob = "kopia.maintenance"
	// sessionPrefix begins the marks of those who are writing, or were killed.
	sessionPrefix = "s"
)

// readableIndexes begin the names of the index blobs that hold entries.
var readableIndexes = []blob.ID{"n", "xn", "xs", "xr"}

// verification is one call of Verify.
type verification struct {
	*repository
	view     *view
	w        repo.DirectRepositoryWriter // nothing is written with it
	data     bool
	progress tree.Progress
	result   *pluginv1.VerifyResult
	// found holds what is damaged, by name.
	found map[string]*pluginv1.DamagedObject
	// packs are the lengths of the packs that are there.
	packs map[blob.ID]int64
	// unnamed are contents that a pack holds and no index names, with the pack.
	unnamed map[content.ID]blob.ID
	// whole are the directories of kopia beneath which nothing is damaged.
	whole map[object.ID]bool

	mu       sync.Mutex // guards the following
	contents map[content.ID]error
}

func newVerification(r *repository, v *view) *verification {
	return &verification{
		repository: r, view: v, result: &pluginv1.VerifyResult{}, found: make(map[string]*pluginv1.DamagedObject),
		packs: make(map[blob.ID]int64), unnamed: make(map[content.ID]blob.ID), whole: make(map[object.ID]bool), contents: make(map[content.ID]error),
	}
}

// contentError is a content that cannot be read.
type contentError struct {
	where string // the blob, or what is known of it
	why   string
	// there says that it is not lost: a restore finds it.
	there bool
}

// Error implements [error].
func (b *contentError) Error() string { return b.where + " is damaged: " + b.why }

// Verify implements [backup.Backup].
func (p *plugin) Verify(ctx context.Context, req *pluginv1.VerifyRequest, tell backup.ProgressFunc) (*pluginv1.VerifyResult, error) {
	r, err := p.ready()
	if err != nil {
		return nil, err
	}
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	job := newVerification(r, v)
	job.data, job.progress.Tell = req.GetData(), tell
	if err := job.run(ctx, req.GetSnapshotIds()); err != nil {
		return nil, ioError(ctx, "verify", err)
	}
	job.result.Intact = len(job.result.GetDamaged()) == 0 && len(job.result.GetFailures()) == 0
	return job.result, nil
}

// run verifies the snapshots that are named, and all with the repository itself
// when none is.
func (v *verification) run(ctx context.Context, ids []string) (err error) {
	c, err := v.view.catalogue(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := c.known(id); err != nil {
			return err
		}
	}
	var wctx context.Context
	if wctx, v.w, err = v.view.rep.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "verify"}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.w.Close(context.WithoutCancel(wctx))) }()
	if err := v.readPacks(ctx); err != nil {
		return err
	}
	if len(ids) == 0 {
		ids = c.ids
		if err := v.structure(ctx, c); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := v.snapshot(ctx, c, id); err != nil {
			return err
		}
	}
	return nil
}

// readPacks finds out which packs there are, and what those hold that no index
// names. Those of a process that was killed, or is writing, are left out.
func (v *verification) readPacks(ctx context.Context) error {
	named, sessions := make(map[blob.ID]bool), make(map[content.SessionID]bool)
	err := v.store.ListBlobs(ctx, "", func(m blob.Metadata) error {
		if isPack(m.BlobID) {
			v.packs[m.BlobID] = m.Length
		} else if strings.HasPrefix(string(m.BlobID), sessionPrefix) {
			sessions[content.SessionIDFromBlobID(m.BlobID)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = v.view.rep.ContentReader().IterateContents(ctx, content.IterateOptions{IncludeDeleted: true}, func(i content.Info) error {
		named[i.PackBlobID] = true
		return nil
	})
	if err != nil {
		return err
	}
	for id, length := range v.packs {
		if named[id] || sessions[content.SessionIDFromBlobID(id)] {
			continue
		}
		infos, err := v.w.ContentManager().RecoverIndexFromPackBlob(ctx, id, length, false)
		if err != nil {
			continue // nothing that is needed is in it, or what is says so
		}
		for _, i := range infos {
			v.unnamed[i.ContentID] = id
		}
	}
	return ctx.Err()
}

// structure verifies what is no snapshot's alone.
func (v *verification) structure(ctx context.Context, c *catalogue) error {
	if v.layout != nil {
		v.damage(shardsFile, v.layout.Error())
	}
	if err := v.format(ctx); err != nil {
		return err
	}
	for _, check := range []func(context.Context) error{v.indexes, v.schedule, v.dataOfPacks} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	var unknown []string
	for _, id := range c.ids {
		if c.manifests[id] == nil {
			unknown = append(unknown, id)
		}
	}
	for _, d := range c.damaged {
		v.damage(string(d.info.PackBlobID), d.err.Error(), unknown...)
	}
	for _, id := range unknown {
		v.damage("manifest of "+id, "kopia does not know the snapshot any more, and its next maintenance may give its content up", id)
	}
	return ctx.Err()
}

// format verifies the blobs without which nothing can be read.
func (v *verification) format(ctx context.Context) error {
	if v.view.damage == nil {
		return nil // it was opened with them
	}
	for _, id := range []blob.ID{format.KopiaRepositoryBlobID, format.KopiaBlobCfgBlobID} {
		want, wantErr := readBlob(ctx, v.view.store, id, -1)
		got, gotErr := readBlob(ctx, v.store, id, -1)
		switch {
		case wantErr == nil && gotErr != nil:
			v.damage(string(id), gotErr.Error())
		case wantErr == nil && string(want) != string(got):
			v.damage(string(id), "it is not what was written")
		}
	}
	return ctx.Err()
}

// indexes reads the blobs that say where contents are.
func (v *verification) indexes(ctx context.Context) error {
	for _, prefix := range readableIndexes {
		blobs, err := blob.ListAllBlobs(ctx, v.store, prefix)
		if err != nil {
			return err
		}
		for _, m := range blobs {
			load := v.w.ContentManager().LoadIndexBlob
			_, err := load(ctx, m.BlobID, newBuffer(load))
			if errors.Is(err, blob.ErrBlobNotFound) {
				continue // compacted meanwhile
			}
			if err != nil {
				v.damage(string(m.BlobID), err.Error())
			}
			v.result.Objects++
			v.result.Bytes += m.Length
		}
	}
	return ctx.Err()
}

// newBuffer makes the buffer that a function of kopia wants: its type is internal
// to kopia and has no other name here.
func newBuffer[B, R any](func(context.Context, blob.ID, *B) (R, error)) *B { return new(B) }

// schedule reads when maintenance is due.
func (v *verification) schedule(ctx context.Context) error {
	if _, err := maintenance.GetSchedule(ctx, v.view.rep); err != nil && ctx.Err() == nil {
		v.damage(maintenanceBlob, err.Error()+"; it can be deleted, and is made anew")
	}
	return ctx.Err()
}

// dataOfPacks reads every content, several at once, and what each pack says of
// itself, from the disk.
func (v *verification) dataOfPacks(ctx context.Context) error {
	if !v.data {
		return nil
	}
	for id, length := range v.packs {
		if v.dir != nil {
			v.dir.forgetCached(id)
		}
		if _, err := v.w.ContentManager().RecoverIndexFromPackBlob(ctx, id, length, false); err != nil && ctx.Err() == nil {
			v.damage(string(id), "what says what is in it: "+err.Error())
		}
	}
	return v.view.rep.ContentReader().IterateContents(ctx, content.IterateOptions{Parallel: verifiers}, func(i content.Info) error {
		_ = v.content(ctx, i.ContentID) // it is asked again for those who need it
		return ctx.Err()
	})
}

// content verifies a content once, whoever needs it.
func (v *verification) content(ctx context.Context, id content.ID) error {
	v.mu.Lock()
	err, known := v.contents[id]
	v.mu.Unlock()
	if known {
		return err
	}
	info, err := v.checkContent(ctx, id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.contents[id] = err
	v.result.Objects++
	v.result.Bytes += int64(info.PackedLength)
	return errors.Join(err, v.progress.Add(0, int64(info.PackedLength)))
}

func (v *verification) checkContent(ctx context.Context, id content.ID) (content.Info, error) {
	info, err := v.view.rep.ContentInfo(ctx, id)
	if err != nil {
		if pack, there := v.unnamed[id]; there {
			return info, &contentError{string(pack), "no index names what is in it: a blob of the index is missing", true}
		}
		return info, &contentError{"content " + id.String(), err.Error(), false}
	}
	length, there := v.packs[info.PackBlobID]
	if !there { // it may have been written since
		m, err := v.store.GetMetadata(ctx, info.PackBlobID)
		if err != nil {
			return info, &contentError{string(info.PackBlobID), "it is missing", false}
		}
		length = m.Length
	}
	if end := int64(info.PackOffset) + int64(info.PackedLength); length < end {
		return info, &contentError{string(info.PackBlobID), fmt.Sprintf("it has %d bytes, and should have %d at least", length, end), false}
	}
	if !v.data {
		return info, nil
	}
	if _, err := v.view.rep.ContentReader().GetContent(ctx, id); err != nil {
		return info, &contentError{string(info.PackBlobID), err.Error(), false}
	}
	return info, nil
}

// object verifies an object and returns what is bad of it.
func (v *verification) object(ctx context.Context, id object.ID) (bad []*contentError, err error) {
	ids := []content.ID{}
	if direct, _, ok := id.ContentID(); ok {
		ids = append(ids, direct)
	} else if ids, err = v.view.rep.VerifyObject(ctx, id); err != nil {
		return []*contentError{{"object " + id.String(), err.Error(), false}}, ctx.Err()
	}
	for _, c := range ids {
		var b *contentError
		if err := v.content(ctx, c); errors.As(err, &b) {
			bad = append(bad, b)
		} else if err != nil {
			return nil, err
		}
	}
	return bad, nil
}

// snapshot verifies what one needs.
func (v *verification) snapshot(ctx context.Context, c *catalogue, id string) error {
	v.result.Snapshots++
	if c.records[id] {
		if _, err := v.view.readRecord(ctx, id); err != nil {
			if v.deleted(ctx, id) {
				return ctx.Err()
			}
			v.damage(string(recordBlob(id)), err.Error(), id)
		}
	}
	if m := c.manifests[id]; m != nil {
		if err := v.directories(ctx, id, m.RootObjectID()); err != nil {
			return err
		}
	}
	m, failed, err := v.view.content(ctx, c, id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if !v.deleted(ctx, id) {
			v.damage("snapshot "+id, err.Error(), id)
		}
		return ctx.Err()
	}
	for _, f := range failed {
		v.lost(id, f.Path, f.Message)
	}
	for _, e := range m.entries {
		if e.Type != tree.TypeFile {
			continue
		}
		if err := v.file(ctx, id, e); err != nil {
			return err
		}
	}
	return nil
}

// deleted says whether somebody has deleted the snapshot since the list was made.
func (v *verification) deleted(ctx context.Context, id string) bool {
	if v.view.damage != nil || v.view.rep.Refresh(ctx) != nil {
		return false
	}
	c, err := v.view.catalogue(ctx)
	return err == nil && c.known(id) != nil
}

// file verifies a file of a snapshot.
func (v *verification) file(ctx context.Context, id string, e *tree.Entry) error {
	object, err := objectOf(e)
	if err != nil {
		v.lost(id, e.Path, err.Error())
		return nil
	}
	bad, err := v.object(ctx, object)
	if err != nil {
		return err
	}
	gone := slices.DeleteFunc(slices.Clone(bad), func(b *contentError) bool { return b.there })
	for _, b := range bad {
		v.damage(b.where, b.why, id)
	}
	if len(gone) > 0 {
		v.lost(id, e.Path, gone[0].Error())
	}
	return v.progress.Add(1, 0)
}

// directories verifies the directories of kopia: with them the kopia client
// restores, and maintenance finds what is needed.
func (v *verification) directories(ctx context.Context, id string, dir object.ID) error {
	_, err := v.directory(ctx, id, dir)
	return err
}

func (v *verification) directory(ctx context.Context, id string, dir object.ID) (whole bool, err error) {
	if v.whole[dir] {
		return true, nil
	}
	if whole, err = v.note(ctx, id, dir); err != nil || !whole {
		return false, err
	}
	m, err := v.view.readDirectory(ctx, dir)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		v.damage("object "+dir.String(), err.Error(), id)
		return false, nil
	}
	for _, e := range m.Entries {
		ok := true
		switch e.Type {
		case snapshot.EntryTypeDirectory:
			ok, err = v.directory(ctx, id, e.ObjectID)
		case snapshot.EntryTypeSymlink:
			ok, err = v.note(ctx, id, e.ObjectID)
		}
		if err != nil {
			return false, err
		}
		whole = whole && ok
	}
	v.whole[dir] = whole
	return whole, nil
}

// note verifies an object that the record of a snapshot does not need.
func (v *verification) note(ctx context.Context, id string, o object.ID) (whole bool, err error) {
	bad, err := v.object(ctx, o)
	for _, b := range bad {
		v.damage(b.where, b.why, id)
	}
	return len(bad) == 0, err
}

// lost notes a path that is lost.
func (v *verification) lost(id string, p tree.Path, why string) {
	v.result.Failures = append(v.result.Failures, &pluginv1.PathFailure{
		Path: []byte(p), Message: fmt.Sprintf("lost in snapshot %s: %s", id, why),
	})
}

// damage notes a piece that is damaged, and that snapshots are not whole
// without it.
func (v *verification) damage(name, why string, ids ...string) {
	d := v.found[name]
	if d == nil {
		d = &pluginv1.DamagedObject{Name: name, Message: strings.ReplaceAll(why, "\n", "; ")}
		v.found[name] = d
		v.result.Damaged = append(v.result.Damaged, d)
	}
	for _, id := range ids {
		if !slices.Contains(d.GetSnapshotIds(), id) {
			d.SnapshotIds = append(d.SnapshotIds, id)
		}
	}
}
