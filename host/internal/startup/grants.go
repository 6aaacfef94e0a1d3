package startup

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/token"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

const (
	// scanUses is how many requests a detector may make during one scan.
	scanUses = 1000
	// grantGrace is how much longer than a scan its token lives, and how long
	// ending it may take.
	grantGrace = 10 * time.Second
)

// detectorID is what the pool calls a detector.
func detectorID(name string) string { return detector.Kind.Name + "." + name }

// grantScan gives detectors tokens for scans of a workspace, which end with
// the scan.
func (w *workspaces) grantScan(workspace string, life time.Duration) gap.Grant {
	return func(ctx context.Context, name, scan string) (string, func(), error) {
		secret, t, err := w.tokens.Issue(ctx, token.Spec{
			Type: token.Operation, Protocol: nexus.ProtocolSOP, Requester: nexus.PluginName(detectorID(name)),
			Operations: []string{"gap.report", "audit.append", "maintenance.file", "scaffold.read"},
			Workspace:  workspace, TTL: life + grantGrace, MaxUses: scanUses, IssuedBy: actorHost, Why: "scan " + scan,
		})
		if err != nil {
			return "", nil, err
		}
		return secret.Reveal(), func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grantGrace)
			defer cancel()
			if _, _, err := w.tokens.Revoke(ctx, t.ID, actorHost, "the scan has ended"); err != nil {
				w.logger.Warn("end the token of a scan; it expires by itself", "token", t.Accessor, "expires_at", t.ExpiresAt, "error", err)
			}
		}, nil
	}
}

// Report implements nexus.Workspaces.
func (w *workspaces) Report(ctx context.Context, agent, workspace string, found *pluginv1.Finding) (*gap.Gap, error) {
	g, err := w.named(workspace)
	if err != nil {
		return nil, err
	}
	for _, d := range w.detectors() {
		if nexus.PluginName(detectorID(d.Name())) != agent {
			continue
		}
		rules, err := d.Rules(ctx)
		if err != nil {
			return nil, err
		}
		return w.gaps.Report(ctx, gap.Report{
			Workspace: workspace, Detector: d.Name(), Version: d.Version(), Rules: rules, By: agent,
			Exists: func(path string) bool { return existsIn(g.config.Path, path) }, Finding: found,
		})
	}
	return nil, sdk.Errorf(codes.PermissionDenied, "NOT_A_DETECTOR", "%s is no detector", agent).
		WithRemedy("gaps are reported by detectors, by their rules")
}

// existsIn says whether there is a path beneath a directory, links not followed
// out of it.
func existsIn(dir, path string) bool {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }() // only looked at
	_, err = root.Lstat(filepath.FromSlash(path))
	return err == nil
}
