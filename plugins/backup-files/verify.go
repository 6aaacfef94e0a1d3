package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/backup"
)

// verification is one call of Verify.
type verification struct {
	repo     *repository
	data     bool
	progress tree.Progress
	loaded   map[string]*manifest
	result   *pluginv1.VerifyResult
	// found holds what is damaged, by name.
	found map[string]*pluginv1.DamagedObject
	// objects holds what was found out about each object; nil: it is whole.
	objects map[digest]error
}

// Verify implements [backup.Backup].
func (b *files) Verify(ctx context.Context, req *pluginv1.VerifyRequest, tell backup.ProgressFunc) (*pluginv1.VerifyResult, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	unlock, err := s.repo.lock(ctx, usageLock, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock.release()
	v := &verification{
		repo: s.repo, data: req.GetData(), progress: tree.Progress{Tell: tell}, loaded: make(map[string]*manifest),
		result: &pluginv1.VerifyResult{}, found: make(map[string]*pluginv1.DamagedObject), objects: make(map[digest]error),
	}
	if err := v.run(ctx, req.GetSnapshotIds()); err != nil {
		return nil, err
	}
	v.result.Intact = len(v.result.GetDamaged()) == 0 && len(v.result.GetFailures()) == 0
	return v.result, nil
}

// run verifies the snapshots that are named, and all with the repository itself
// when none is.
func (v *verification) run(ctx context.Context, ids []string) error {
	whole := len(ids) == 0
	if whole {
		if err := v.structure(ctx); err != nil {
			return err
		}
		l, err := v.repo.list()
		if err != nil {
			return err
		}
		ids = l.live
	}
	for _, id := range ids {
		if err := v.repo.live(id); err != nil && !whole {
			return err
		}
		m, known := v.loaded[id]
		if !known {
			m = v.load(id)
		}
		if m == nil {
			continue
		}
		if err := v.snapshot(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// structure verifies the format file, the manifests and their chain. No snapshot
// is added meanwhile.
func (v *verification) structure(ctx context.Context) error {
	commit, err := v.repo.lock(ctx, commitLock, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer commit.release()
	if _, err := v.repo.readFormat(); err != nil {
		v.damage(formatFile, reason(err))
	}
	l, err := v.repo.list()
	if err != nil {
		return err
	}
	for _, id := range l.live {
		v.load(id)
	}
	return v.repo.walkChain(v.loaded, func(name, why string) { v.damage(name, why, snapshotOf(name)...) })
}

// snapshotOf is the snapshot that a file describes; none for the head.
func snapshotOf(name string) []string {
	id, ok := strings.CutSuffix(name, manifestSuffix)
	if !ok {
		return nil
	}
	return []string{id[strings.LastIndexByte(id, '/')+1:]}
}

// load reads a manifest; nil if it is damaged.
func (v *verification) load(id string) *manifest {
	m, err := v.repo.load(id)
	if err != nil {
		v.damage(manifestName(id), reason(err), id)
	}
	v.loaded[id] = m
	v.result.Snapshots++
	return m
}

// damage notes a piece that is damaged, and that snapshots are not whole
// without it.
func (v *verification) damage(name, why string, ids ...string) {
	d := v.found[name]
	if d == nil {
		d = &pluginv1.DamagedObject{Name: name, Message: why}
		v.found[name] = d
		v.result.Damaged = append(v.result.Damaged, d)
	}
	for _, id := range ids {
		if !slices.Contains(d.GetSnapshotIds(), id) {
			d.SnapshotIds = append(d.SnapshotIds, id)
		}
	}
}

// snapshot verifies the objects of one.
func (v *verification) snapshot(ctx context.Context, m *manifest) error {
	for i := range m.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := m.entries[i]
		if e.Type != tree.TypeFile {
			continue
		}
		if err := v.object(e); err != nil {
			var d *damaged
			if !errors.As(err, &d) {
				return ioError("verify", err)
			}
			v.damage(d.name, d.why, m.ID)
			v.result.Failures = append(v.result.Failures, &pluginv1.PathFailure{
				Path: []byte(e.Path), Message: fmt.Sprintf("lost in snapshot %s: %v", m.ID, d),
			})
		}
		if err := v.progress.Add(1, e.Stored()); err != nil {
			return err
		}
	}
	return nil
}

// object verifies an object once, whoever needs it.
func (v *verification) object(e *tree.Entry) error {
	err, known := v.objects[digest(e.Object)]
	if known {
		return err
	}
	if v.data {
		err = v.repo.readObject(digest(e.Object), e.Stored(), io.Discard, false)
	} else {
		err = v.repo.hasObject(digest(e.Object), e.Stored())
	}
	v.objects[digest(e.Object)] = err
	v.result.Objects++
	v.result.Bytes += e.Stored()
	return err
}
