//go:build !front

package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// worstGaps is how many gaps the summary of a first scan shows.
const worstGaps = 10

type upOptions struct {
	*app
	logs bool
}

func (a *app) newUpCommand() *cobra.Command {
	o := &upOptions{app: a}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the host and stay with it",
		Long: `Start the host: bring its plugins into service, scan the configured workspaces, and keep at it. What happens is shown as
it happens; with -o json, as one JSON object a line. Ctrl-C or SIGTERM stops the host once its work has been put away;
a second Ctrl-C stops it at once, with exit code 130. SIGHUP reloads the configuration.`,
		Example:     "  sop up\n  sop up -c /etc/sop --logs",
		Args:        noArguments,
		Annotations: exits("467"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.logs, "logs", false, "also write the host's log to standard error")
	return cmd
}

func (o *upOptions) run(ctx context.Context) error {
	if err := o.requireConfig(); err != nil {
		return err
	}
	// Whoever read the timeline may go away; the host stays.
	o.outMayEnd = true
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)

	scans := newScanQueue()
	timeline := newTimeline(o.app)
	// What has been found is still shown when ctx ends before the host has.
	viewing, endView := context.WithCancel(context.WithoutCancel(ctx))
	defer endView()
	var viewer sync.WaitGroup
	viewer.Go(func() { o.view(viewing, scans, timeline) })
	options := startup.Options{
		ConfigPath: o.configPath(), PluginsDir: o.pluginsDir(), Version: o.version.Version,
		OnStep: timeline.step, OnScan: scans.add,
	}
	if o.logs {
		options.LogWriter = timeline.log()
	}
	err := o.engine.Run(ctx, options)
	scans.close()
	endView()
	viewer.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return here(err)
}

// view shows scans as they end. It asks the host for its worst gaps, so it must
// not run in a callback of the host.
func (o *upOptions) view(ctx context.Context, scans *scanQueue, timeline *timeline) {
	c := newClient(o.socket())
	defer c.Close()
	seen := make(map[string]bool)
	for ws := range scans.ended {
		first := !seen[ws.GetName()]
		seen[ws.GetName()] = true
		if !first {
			timeline.rescan(ws)
			continue
		}
		timeline.firstScan(ws, o.worst(ctx, c, ws.GetName()))
	}
}

// worst returns the worst gaps of a workspace, or none when the host is on its
// way down.
func (o *upOptions) worst(ctx context.Context, c *client, workspace string) []*apiv1.GapRecord {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	gaps, _, err := listGaps(ctx, c, &apiv1.ListGapsRequest{Workspace: workspace}, worstGaps)
	if err != nil {
		return nil
	}
	return gaps
}

// scanQueue hands scans that have ended from the host to the viewer. Nothing
// blocks or is left over once it is closed.
type scanQueue struct {
	ended chan *apiv1.WorkspaceStatus

	mu     sync.Mutex
	closed bool
}

func newScanQueue() *scanQueue {
	return &scanQueue{ended: make(chan *apiv1.WorkspaceStatus, 256)}
}

// add never blocks the host: a viewer that is 256 scans behind misses some.
func (q *scanQueue) add(ws *apiv1.WorkspaceStatus) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	select {
	case q.ended <- ws:
	default:
	}
}

func (q *scanQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.ended)
}
