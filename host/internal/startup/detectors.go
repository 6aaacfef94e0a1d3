package startup

import (
	"context"
	"slices"
	"strconv"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/plugin"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// detectorsOf returns the configured detectors as gap uses them; those that are
// not in service too, so that a scan without them is known to be incomplete.
func detectorsOf(pool *plugin.Pool) []gap.Detector {
	var all []gap.Detector
	for _, s := range pool.Status() {
		if s.Kind == detector.Kind.Name {
			all = append(all, &pooledDetector{
				pool: pool, id: s.ID, name: s.Name, version: s.Version,
				volatile: slices.Contains(s.Capabilities, detector.Volatile), client: detector.Kind.NewClient(pool.Conn(s.ID)),
			})
		}
	}
	return all
}

// configuredDetectors names the detectors that there are to be, also those that are
// switched off for now, and those that a reload brings which is under way.
func (h *host) configuredDetectors() []string {
	names := []string{}
	for _, p := range h.loaded.Load().config.Plugins {
		if p.Kind == detector.Kind.Name {
			names = append(names, p.Name)
		}
	}
	for _, d := range detectorsOf(h.pool) {
		names = append(names, d.Name())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pooledDetector is a detector plugin as gap uses it.
type pooledDetector struct {
	pool              *plugin.Pool
	id, name, version string
	volatile          bool
	client            pluginv1.DetectorClient
}

// Name implements [gap.Detector].
func (d *pooledDetector) Name() string { return d.name }

// Version implements [gap.Detector].
func (d *pooledDetector) Version() string { return d.version }

// Volatile implements [gap.Detector].
func (d *pooledDetector) Volatile() bool { return d.volatile }

// Generation implements [gap.Detector].
func (d *pooledDetector) Generation() string {
	for _, s := range d.pool.Status() {
		if s.ID == d.id {
			return strconv.Itoa(s.Generation)
		}
	}
	return ""
}

// Rules implements [gap.Detector].
func (d *pooledDetector) Rules(ctx context.Context) ([]*pluginv1.Rule, error) {
	resp, err := d.client.ListRules(ctx, &pluginv1.ListRulesRequest{})
	if err != nil {
		return nil, err
	}
	return resp.GetRules(), nil
}

// Scan implements [gap.Detector].
func (d *pooledDetector) Scan(ctx context.Context) (gap.Stream, error) {
	return d.client.Scan(ctx)
}
