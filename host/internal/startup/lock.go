package startup

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/scratch"
	"github.com/sop-host/sop/sdk"
)

// Lock writes the lock file beside the configuration: for every enabled plugin
// the checksum of the program that is there now, and what it describes itself
// to be. With check nothing is written. The error joins one for each plugin that could not be
// locked; the others are locked all the same.
func Lock(ctx context.Context, configPath, pluginsDir, version string, check bool) (changes []LockChange, err error) {
	cfg, diags := config.Load(configPath, config.Options{PluginsDir: pluginsDir})
	if cfg == nil {
		return nil, diags
	}
	old, err := plugin.ReadLock(lockPath(cfg))
	if err != nil {
		return nil, err
	}
	run, err := scratch.New("lock")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	pool, err := plugin.New(plugin.Options{RunDir: run.Join("run"), Logger: hclog.NewNullLogger(), HostVersion: version, SandboxLauncher: sandboxLauncher})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()

	next := old
	var failed []error
	for i := range cfg.Plugins {
		p := &cfg.Plugins[i]
		if !p.Enabled {
			continue
		}
		entry, err := lockOne(ctx, pool, cfg, p)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		next = next.With(entry)
		changes = append(changes, lockChange(old, entry))
	}
	for _, id := range old.IDs() {
		if cfg.Plugin(id) == nil {
			next = next.Without(id)
			changes = append(changes, LockChange{ID: id, Action: "removed"})
		}
	}
	if !check && lockDiffers(changes) {
		failed = append(failed, next.Write(lockPath(cfg)))
	}
	return changes, errors.Join(failed...)
}

// lockOne returns what is to be locked of p.
func lockOne(ctx context.Context, pool *plugin.Pool, cfg *config.Config, p *config.Plugin) (plugin.LockEntry, error) {
	hash, err := plugin.HashFile(p.Command)
	if err != nil {
		return plugin.LockEntry{}, err
	}
	spec, _ := newSpec(cfg, &plugin.Lock{}, p) // not locked: no schema, no diagnostics
	spec.Hash = hash
	described, err := pool.Describe(ctx, spec)
	if e := sdk.FromError(err); e != nil && e.Reason == plugin.ReasonExitedEarly { // nobody keeps a log, or restarts it
		e.Message = fmt.Sprintf("%s; a SOP plugin stays and waits to be asked what it is", e.Message)
		return plugin.LockEntry{}, e.WithRemedy("check that %s is a SOP plugin: one that is built with the sop sdk, or speaks go-plugin's protocol", p.Command)
	}
	if err != nil {
		return plugin.LockEntry{}, err
	}
	schema := described.GetConfigSchema()
	if err := schemaOf(schema).Validate(); err != nil {
		return plugin.LockEntry{}, fmt.Errorf("plugin %s: %w", p.ID(), err)
	}
	return plugin.LockEntry{Kind: p.Kind, Name: p.Name, Hash: hash, Version: described.GetVersion(), Schema: schema}, nil
}

func lockChange(old *plugin.Lock, entry plugin.LockEntry) LockChange {
	c := LockChange{ID: entry.ID(), Action: "added", Version: entry.Version, Hash: entry.Hash}
	if was, ok := old.Entry(entry.ID()); ok {
		c.OldHash, c.Action = was.Hash, "updated"
		if was.Hash == entry.Hash && was.Version == entry.Version && proto.Equal(was.Schema, entry.Schema) {
			c.Action = "unchanged"
		}
	}
	return c
}

// lockedHash returns the checksum that the lock file has now of a plugin; empty: it
// has none.
func (h *host) lockedHash(id string) (string, error) {
	lock, err := plugin.ReadLock(lockPath(h.loaded.Load().config))
	if err != nil {
		return "", err
	}
	entry, _ := lock.Entry(id)
	return entry.Hash, nil
}

func lockDiffers(changes []LockChange) bool {
	for _, c := range changes {
		if c.Action != "unchanged" {
			return true
		}
	}
	return false
}
