package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
)

// idTag is the tag of a kopia snapshot that holds the id of ours.
const idTag = "tag:sop-id"

// tagOf is the tag for a label.
func tagOf(label string) string { return "tag:" + label }

// kopiaManifest is a snapshot of ours as the kopia client knows it.
type kopiaManifest struct {
	id manifest.ID
	snapshot.Manifest
}

func (m *kopiaManifest) pinned() bool { return m != nil && len(m.Pins) > 0 }

// damagedContent is a piece of a pack that cannot be read.
type damagedContent struct {
	info content.Info
	err  error
}

// manifestEntry is how kopia stores a manifest.
type manifestEntry struct {
	ID       manifest.ID       `json:"id"`
	Labels   map[string]string `json:"labels"`
	Modified time.Time         `json:"modified"`
	Deleted  bool              `json:"deleted"`
	Data     json.RawMessage   `json:"data"`
}

// manifests reads the snapshots of ours that the kopia client knows, by our ids.
// Unlike kopia's own reader it goes on after what is damaged, and returns that.
func (v *view) manifests(ctx context.Context) (map[string]*kopiaManifest, []damagedContent, error) {
	var mu sync.Mutex
	latest, damaged := make(map[manifest.ID]manifestEntry), []damagedContent(nil)
	err := v.rep.ContentReader().IterateContents(ctx, content.IterateOptions{Range: index.PrefixRange(manifest.ContentPrefix)}, func(info content.Info) error {
		entries, err := v.manifestContent(ctx, info.ContentID)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			damaged = append(damaged, damagedContent{info, err})
			return ctx.Err()
		}
		for _, e := range entries {
			if had, known := latest[e.ID]; !known || e.Modified.After(had.Modified) {
				latest[e.ID] = e
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read manifests: %w", err)
	}
	ours := make(map[string]*kopiaManifest)
	for id, e := range latest {
		if e.Deleted || e.Labels[manifest.TypeLabelKey] != snapshot.ManifestType || e.Labels[idTag] == "" {
			continue
		}
		m := &kopiaManifest{id: id}
		if err := json.Unmarshal(e.Data, &m.Manifest); err != nil {
			return nil, nil, fmt.Errorf("manifest %s: %w", id, err)
		}
		m.ID = id
		ours[e.Labels[idTag]] = m
	}
	return ours, damaged, nil
}

// manifestContent reads the manifests of one content.
func (v *view) manifestContent(ctx context.Context, id content.ID) ([]manifestEntry, error) {
	packed, err := v.rep.ContentReader().GetContent(ctx, id)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	var all struct {
		Entries []manifestEntry `json:"entries"`
	}
	err = json.NewDecoder(z).Decode(&all)
	return all.Entries, err
}
