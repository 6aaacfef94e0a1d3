package startup

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/token"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	backupkind "github.com/sop-host/sop/sdk/backup"
)

// backupUses is how many requests a backup plugin may make during one call.
const backupUses = 1000

// openBackups makes the service that saves and restores.
func (h *host) openBackups() {
	h.backups = backup.NewService(backup.Options{
		Store: h.store.Backups(), Plugins: pooledBackups{h.pool}, Grant: h.grantBackup, DataDir: string(h.dir), Scratch: h.dir.scratch(),
		Logger: h.logger.Named("backup"), Now: h.tokens.Now, StageState: h.stageState, Roots: func() map[string]string { return h.workspaces.roots() },
		Root: func(workspace string) (string, error) {
			g, err := h.workspaces.named(workspace)
			if err != nil {
				return "", err
			}
			return g.config.Path, nil
		},
	})
	if err := h.backups.Clean(); err != nil {
		h.logger.Warn("remove what was restored to be looked at; it takes room and does no harm", "dir", h.dir.scratch(), "error", err)
	}
}

// pooledBackups are the backup plugins of the pool.
type pooledBackups struct{ pool *plugin.Pool }

// backupID is what the pool calls a backup plugin.
func backupID(name string) string { return backupkind.Kind.Name + "." + name }

// Names implements [backup.Plugins].
func (p pooledBackups) Names() (names []string) {
	for _, s := range p.pool.Status() {
		if s.Kind == backupkind.Kind.Name {
			names = append(names, s.Name)
		}
	}
	return names
}

// Client implements [backup.Plugins].
func (p pooledBackups) Client(name string) pluginv1.BackupClient {
	return backupkind.Kind.NewClient(p.pool.Conn(backupID(name)))
}

// grantBackup gives a backup plugin a token for one call, which ends with it.
func (h *host) grantBackup(ctx context.Context, name, workspace, what string) (string, func(), error) {
	secret, t, err := h.tokens.Issue(ctx, token.Spec{
		Type: token.Operation, Protocol: nexus.ProtocolSOP, Requester: nexus.PluginName(backupID(name)),
		Operations: []string{"audit.append", "maintenance.file"}, Workspace: workspace, TTL: h.callTime(backupID(name)) + grantGrace,
		MaxUses: backupUses, IssuedBy: actorHost, Why: what,
	})
	if err != nil {
		return "", nil, err
	}
	return secret.Reveal(), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grantGrace)
		defer cancel()
		if _, _, err := h.tokens.Revoke(ctx, t.ID, actorHost, "the call has ended"); err != nil {
			h.logger.Warn("end the token of a backup; it expires by itself", "token", t.Accessor, "expires_at", t.ExpiresAt, "error", err)
		}
	}, nil
}

// callTime is how long a call to a plugin may take, by the configuration.
func (h *host) callTime(id string) time.Duration {
	for _, s := range h.loaded.Load().specs {
		if s.ID() == id {
			return s.CallTimeout
		}
	}
	return 0
}
