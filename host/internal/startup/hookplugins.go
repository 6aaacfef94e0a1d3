package startup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/hook"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
	backupkind "github.com/sop-host/sop/sdk/backup"
	"github.com/sop-host/sop/sdk/detector"
	sdkprotocol "github.com/sop-host/sop/sdk/protocol"
	sandboxkind "github.com/sop-host/sop/sdk/sandbox"
)

// hookRunner runs what hooks name.
type hookRunner struct {
	host *host

	mu sync.Mutex
	// saved is when the latest backup began that a hook had made of a workspace.
	saved map[[2]string]time.Time // hook and workspace
}

func newHookRunner(h *host) *hookRunner {
	return &hookRunner{host: h, saved: make(map[[2]string]time.Time)}
}

// hookPrefix is what the names of hooks begin with, as callers.
var hookPrefix = nexus.HostCaller("hook.").Name

// run runs a hook for one event, in the hook's name and as policy permits.
func (r *hookRunner) run(ctx context.Context, k *hook.Hook, e *event.Record) error {
	if err := r.host.halted(); err != nil {
		return err
	}
	if ownDoing(k, e) {
		return nil
	}
	ctx = nexus.WithCaller(ctx, nexus.HostCaller("hook."+k.Name))
	kind, name, _ := strings.Cut(k.Plugin, ".")
	switch kind {
	case "":
		return r.host.tellHook(ctx, k, e)
	case detector.Kind.Name:
		return r.scan(ctx, e)
	case backupkind.Kind.Name:
		return r.save(ctx, k, e, name)
	case sandboxkind.Kind.Name:
		return r.work(ctx, k, e, name)
	}
	return sdk.Errorf(codes.Internal, "HOOK_PLUGIN", "hooks run no plugins of the kind %q", kind)
}

// ownDoing says that an event was made by what hooks run. It sets off nothing of the
// same sort, so that no hook, and no two of them, go on without end: plugins are not
// run for what hooks have done, nothing is scanned for what a scan for a hook has found
// (a generator may work on it, on each gap once), and protocols are not told of what
// protocols do.
func ownDoing(k *hook.Hook, e *event.Record) bool {
	kind, _, _ := strings.Cut(k.Plugin, ".")
	switch {
	case k.Owner != "": // requests for maintenance are counted, not repeated: others may ask what a protocol owns
		return e.Actor == nexus.PluginName(sdkprotocol.Kind.Name+"."+k.Protocol)
	case kind == "":
		return strings.HasPrefix(e.Actor, nexus.PluginName(sdkprotocol.Kind.Name+"."))
	case kind == detector.Kind.Name && strings.HasPrefix(gap.ScanFor(e.Actor), hookPrefix):
		return true
	}
	return strings.HasPrefix(e.Actor, hookPrefix)
}

func workspaceResource(name string) policy.Resource {
	return policy.Resource{Ref: policy.Ref{Type: policy.TypeWorkspace, ID: name}}
}

// scan has the workspace of an event scanned, unless it has been since.
func (r *hookRunner) scan(ctx context.Context, e *event.Record) error {
	if e.Workspace == "" {
		return nil
	}
	if r.host.workspaces.scannedSince(e.Workspace, e.At) {
		return nil
	}
	if err := r.host.door.AuthorizeOn(ctx, "workspace.scan", workspaceResource(e.Workspace), nil); err != nil {
		return err
	}
	caller, _ := nexus.CallerFrom(ctx)
	_, err := r.host.workspaces.ScanSince(ctx, e.Workspace, caller.Name, e.At)
	return err
}

// save has a backup plugin save the workspace of an event, unless the hook has had
// that done since.
func (r *hookRunner) save(ctx context.Context, k *hook.Hook, e *event.Record, plugin string) error {
	key := [2]string{k.Name, e.Workspace}
	r.mu.Lock()
	since := r.saved[key]
	r.mu.Unlock()
	if e.Workspace == "" || since.After(e.At) {
		return nil
	}
	if err := r.host.door.AuthorizeOn(ctx, "backup.create", workspaceResource(e.Workspace), nil); err != nil {
		return err
	}
	caller, _ := nexus.CallerFrom(ctx)
	began := time.Now()
	_, err := r.host.backups.Save(ctx, backup.SaveRequest{Plugin: plugin, Workspace: e.Workspace, Reason: backup.ForRequest, By: caller.Name})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.saved[key] = began
	r.mu.Unlock()
	return nil
}

// work has a sandbox plugin work on the task of an event, or on that of its gap: each
// task, and each gap, once.
func (r *hookRunner) work(ctx context.Context, k *hook.Hook, e *event.Record, plugin string) error {
	caller, _ := nexus.CallerFrom(ctx)
	noun, id, _ := strings.Cut(e.Subject, "/")
	why := fmt.Sprintf("hook %s, for %s", k.Name, e.Kind)
	switch noun {
	case "task":
		return r.give(ctx, id, plugin, caller.Name, why)
	case "patch":
		if of := e.Attributes["task"]; of != "" {
			return r.give(ctx, of, plugin, caller.Name, why)
		}
	case "gap":
		return r.close(ctx, id, plugin, caller.Name, why)
	}
	return nil
}

// give gives a task to a plugin, unless the hook has done so before.
func (r *hookRunner) give(ctx context.Context, id, plugin, by, why string) error {
	t, err := r.host.tasks.Get(ctx, id)
	if err != nil || touched(t, by) {
		return err
	}
	if err := r.host.door.AuthorizeOn(ctx, "run.start", policy.TheHost(), nil); err != nil {
		return err
	}
	given, err := r.host.tasks.Give(ctx, id, plugin, by, why)
	if err == nil && !given {
		r.host.logger.Debug("a hook leaves a task as it is", "hook", by, "task", id, "state", t.State)
	}
	return err
}

// touched says whether somebody has made a task, or done something to it.
func touched(t *task.Task, by string) bool {
	return t.CreatedBy == by || slices.ContainsFunc(t.History, func(c task.Change) bool { return c.By == by })
}

// close gives the task of a gap to a plugin, or makes one that waits for its turn in
// the backlog.
func (r *hookRunner) close(ctx context.Context, id, plugin, by, why string) error {
	g, err := r.host.gaps.Get(ctx, id)
	if err != nil {
		return err
	}
	// What rules make of gaps they have made then, so that no gap gets two tasks.
	if _, err := r.host.tasks.Plan(ctx, g.Workspace); err != nil {
		return err
	}
	page, err := r.host.tasks.List(ctx, task.Filter{Gap: g.ID, States: task.States()})
	if err != nil {
		return err
	}
	var last *task.Task // the latest of which something may still become
	for _, t := range page.Tasks {
		if t, err = r.host.tasks.Get(ctx, t.ID); err != nil {
			return err
		}
		if touched(t, by) {
			return nil
		}
		if t.State != task.StateDone && (last == nil || t.CreatedAt.After(last.CreatedAt)) {
			last = t
		}
	}
	if last != nil {
		return r.give(ctx, last.ID, plugin, by, why)
	}
	if g.State != gap.StateOpen && g.State != gap.StateAcknowledged {
		return nil
	}
	if err := r.host.door.AuthorizeOn(ctx, "run.start", policy.TheHost(), nil); err != nil {
		return err
	}
	_, err = r.host.tasks.Create(ctx, task.New{
		Kind: task.KindGap, Workspace: g.Workspace, Gaps: []string{g.ID}, Spec: task.Spec{Sandbox: plugin},
		Backlog: true, By: by, Why: why,
	})
	return err
}
