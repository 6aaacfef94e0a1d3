package startup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/importers"
	"github.com/sop-host/sop/host/internal/trace"
	"github.com/sop-host/sop/host/internal/workspace"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// workspaces governs the configured trees: it scans each when the host starts,
// at intervals and on request. It implements nexus.Workspaces.
type workspaces struct {
	ctx       context.Context //nolint:containedctx // the host's own life: scans outlive the request that began them
	cancel    context.CancelFunc
	store     gap.Store
	publisher gap.Publisher
	gaps      *gap.Service
	tokens    *meteredTokens
	detectors func() []gap.Detector
	// configured names the detectors of the configuration, in service or not.
	configured func() []string
	onScan     func(*apiv1.WorkspaceStatus)
	changed    func()
	logger     hclog.Logger
	dataDir    string // is not scanned, wherever it lies
	tracer     func() *trace.Tracer

	mu      sync.Mutex
	all     map[string]*governed
	applied bool // they have been told for the first time
	wg      sync.WaitGroup
}

// governed is one tree. workspaces.mu guards what changes.
type governed struct {
	config  config.Workspace
	walker  *workspace.Walker
	counter importers.Counter
	scanner *gap.Scanner
	stop    context.CancelFunc // ends its schedule and its scan
	kick    chan struct{}      // asks the schedule for a scan
	run     *run               // the scan under way; nil when there is none
	last    *apiv1.ScanReport  // nil before the first
}

// run is one scan, which several callers may await.
type run struct {
	done   chan struct{}
	began  time.Time
	report *apiv1.ScanReport
	err    error
}

// checkWorkspaces says what keeps the configured trees from being governed.
func checkWorkspaces(cfg *config.Config) config.Diagnostics {
	var diags config.Diagnostics
	for _, w := range cfg.Workspaces {
		var detail string
		switch info, err := os.Stat(w.Path); {
		case err != nil:
			detail = err.Error()
		case !info.IsDir():
			detail = w.Path + " is not a directory"
		default:
			continue
		}
		diags = append(diags, cfg.Problem(w.PathSource, fmt.Sprintf("Workspace %q cannot be governed", w.Name),
			detail+". Create it, or correct `path`."))
	}
	return diags
}

// apply governs exactly these trees from now on. What has not changed goes on
// undisturbed.
func (w *workspaces) apply(all []config.Workspace) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.applied = true
	var failed []error
	wanted := make(map[string]bool)
	for _, c := range all {
		wanted[c.Name] = true
		old, ok := w.all[c.Name]
		if ok && sameWorkspace(old.config, c) {
			continue
		}
		g, err := w.govern(c)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if ok {
			old.stop()
			g.last = old.last
		}
		w.all[c.Name] = g
	}
	for name, g := range w.all {
		if !wanted[name] {
			g.stop()
			delete(w.all, name)
		}
	}
	return errors.Join(failed...)
}

// sameWorkspace compares settings and not where they stand.
func sameWorkspace(a, b config.Workspace) bool {
	a.Source, b.Source = config.Range{}, config.Range{}
	a.PathSource, b.PathSource = config.Range{}, config.Range{}
	a.Verify, b.Verify, a.Protect, b.Protect = nil, nil, nil, nil // not the scans' affair
	return reflect.DeepEqual(a, b)
}

// govern begins with a tree. w.mu is held.
func (w *workspaces) govern(c config.Workspace) (*governed, error) {
	walker, err := workspace.NewWalker(c.Path, walkOptions(&c, w.dataDir))
	if err != nil {
		return nil, fmt.Errorf("workspace %s: %w", c.Name, err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	g := &governed{config: c, walker: walker, stop: stop, kick: make(chan struct{}, 1)}
	g.scanner = gap.NewScanner(w.store, w.publisher, gap.ScanOptions{Timeout: c.Scan.Timeout, MaxFileSize: c.Scan.MaxFileSize})
	if c.Scan.OnStart {
		g.kick <- struct{}{}
	}
	w.wg.Go(func() { w.schedule(ctx, g) })
	return g, nil
}

// escapePattern makes a gitignore pattern that matches path and nothing else.
func escapePattern(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, " ", `\ `).Replace(path)
}

// walkOptions list a workspace as git would for this user, without the host's
// own state.
func walkOptions(c *config.Workspace, dataDir string) workspace.Options {
	exclude := c.Scan.Exclude
	if rel, err := filepath.Rel(c.Path, dataDir); err == nil && filepath.IsLocal(rel) && rel != "." {
		exclude = append(slices.Clone(exclude), "/"+escapePattern(filepath.ToSlash(rel))+"/")
	}
	global, set := os.LookupEnv("GIT_CONFIG_GLOBAL")
	if set && global == "" {
		global = os.DevNull // git reads none
	}
	return workspace.Options{
		Exclude: exclude, Home: os.Getenv("HOME"), XDGConfigHome: os.Getenv("XDG_CONFIG_HOME"),
		GlobalConfig: global, SystemConfig: "/etc/gitconfig",
	}
}

// schedule scans when asked and at intervals, until ctx is done.
func (w *workspaces) schedule(ctx context.Context, g *governed) {
	var tick <-chan time.Time
	if g.config.Scan.Interval > 0 {
		t := time.NewTicker(g.config.Scan.Interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.kick:
		case <-tick:
		}
		r := w.begin(ctx, g, "")
		<-r.done
		if ctx.Err() != nil {
			return
		}
		if w.onScan != nil {
			w.onScan(w.status(ctx, g))
		}
	}
}

// rescan asks for a scan of every tree, as after a change of detectors.
func (w *workspaces) rescan() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.all {
		g.ask()
	}
}

// rescanOne asks for a scan of one tree, if it is governed.
func (w *workspaces) rescanOne(name string) {
	if g, err := w.named(name); err == nil {
		g.ask()
	}
}

// ask has the tree scanned soon.
func (g *governed) ask() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// begin starts a scan for somebody, or returns the one under way.
func (w *workspaces) begin(ctx context.Context, g *governed, who string) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.run != nil {
		return g.run
	}
	r := &run{done: make(chan struct{}), began: time.Now()}
	g.run = r
	w.wg.Go(func() {
		defer close(r.done)
		w.changed()
		r.report, r.err = w.scan(ctx, g, who)
		w.mu.Lock()
		g.run = nil
		if r.report != nil {
			g.last = r.report
		}
		w.mu.Unlock()
		w.changed()
	})
	return r
}

func (w *workspaces) scan(ctx context.Context, g *governed, who string) (*apiv1.ScanReport, error) {
	c := g.config.Scan
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ctx, span := w.traceScan(ctx, g.config.Name)
	w.logger.Info("scan started", "workspace", g.config.Name)
	detectors := w.detectors()
	result, err := g.scanner.Scan(ctx, gap.Target{
		Workspace: g.config.Name, Walker: g.walker, Detectors: detectors, Configured: w.configured(), Grant: w.grantScan(g.config.Name, c.Timeout), For: who,
	})
	if _, gone := os.Stat(g.config.Path); err != nil && gone != nil {
		err = workspaceGone(g.config.Name, gone)
	}
	span.End(err)
	report := api.ScanReport(result, err)
	if len(detectors) == 0 { // complete it is: nobody was to look
		report.DiagnosticsTotal++
		report.Diagnostics = append(report.Diagnostics, &apiv1.ScanDiagnostic{
			Reason: "no_detectors", Message: "nobody has looked: no detector is configured", Remedy: "configure a plugin \"detector\" and lock it: sop plugin lock",
		})
	}
	if err != nil {
		w.logger.Error("scan failed", "workspace", g.config.Name, "error", err)
		return report, err
	}
	w.logger.Info("scan finished", "workspace", g.config.Name, "files", result.Files, "new", result.New, "reopened", result.Reopened,
		"resolved", result.Resolved, "complete", result.Complete, "took", result.Duration)
	return report, nil
}

// workspaceGone says that the directory of a tree cannot be opened, and not where it
// was: that is told to agents too.
func workspaceGone(name string, err error) *sdk.Error {
	why := err
	var at *fs.PathError
	if errors.As(err, &at) {
		why = at.Err
	}
	e := sdk.Errorf(codes.Unavailable, "WORKSPACE_GONE", "the directory of workspace %s cannot be opened: %w", name, why).
		WithRemedy("put the directory back, or correct `path` in the configuration")
	return e.RetryIn(0)
}

// Scan implements nexus.Workspaces.
func (w *workspaces) Scan(ctx context.Context, name string) (*apiv1.ScanReport, error) {
	return w.ScanSince(ctx, name, "", time.Now())
}

// await returns what came of a scan. It goes on when ctx is done.
func (r *run) await(ctx context.Context) (*apiv1.ScanReport, error) {
	select {
	case <-r.done:
		return r.report, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// scannedSince says whether a scan has ended that began after a time.
func (w *workspaces) scannedSince(name string, since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.all[name]
	return g != nil && g.last != nil && g.last.GetError() == "" && g.last.GetStartedAt().AsTime().After(since)
}

// ScanSince scans for somebody, or joins a scan that is under way if that began
// after a time.
func (w *workspaces) ScanSince(ctx context.Context, name, who string, since time.Time) (*apiv1.ScanReport, error) {
	g, err := w.named(name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	under := g.run
	w.mu.Unlock()
	if under != nil && !under.began.After(since) { // it may have passed by what has changed
		if _, err := under.await(ctx); ctx.Err() != nil {
			return nil, err
		}
	}
	return w.begin(trace.Follow(w.ctx, ctx), g, who).await(ctx)
}

// importers implements [task.Options.Importers].
func (w *workspaces) importers(ctx context.Context, name string) (map[string]int, error) {
	g, err := w.named(name)
	if err != nil {
		return nil, err
	}
	manifest, err := g.walker.Walk(ctx)
	if err != nil {
		return nil, fmt.Errorf("list workspace %s: %w", name, err)
	}
	return g.counter.Count(ctx, manifest.Root, manifest.Files)
}

// named returns the tree of that name.
func (w *workspaces) named(name string) (*governed, error) {
	w.mu.Lock()
	g, ok := w.all[name]
	applied := w.applied
	names := make([]string, 0, len(w.all))
	for n := range w.all {
		names = append(names, n)
	}
	w.mu.Unlock()
	if !ok && !applied {
		e := sdk.Errorf(codes.Unavailable, reasonStarting, "the host is still starting, and governs no workspace yet").
			WithRemedy("try again in a moment; `sop status` says what it waits for")
		e.Retryable = true
		return nil, e
	}
	if !ok {
		slices.Sort(names)
		return nil, sdk.Errorf(codes.NotFound, "WORKSPACE_UNKNOWN", "there is no workspace %q", name).
			WithRemedy("the configured workspaces are: %s", strings.Join(names, ", "))
	}
	return g, nil
}

// roots are the directories of all trees, by name.
func (w *workspaces) roots() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]string, len(w.all))
	for name, g := range w.all {
		out[name] = g.config.Path
	}
	return out
}

// List implements nexus.Workspaces.
func (w *workspaces) List(ctx context.Context) ([]*apiv1.WorkspaceStatus, error) {
	w.mu.Lock()
	all := make([]*governed, 0, len(w.all))
	for _, g := range w.all {
		all = append(all, g)
	}
	w.mu.Unlock()
	slices.SortFunc(all, func(a, b *governed) int { return strings.Compare(a.config.Name, b.config.Name) })
	out := make([]*apiv1.WorkspaceStatus, len(all))
	for i, g := range all {
		out[i] = w.status(ctx, g)
	}
	return out, nil
}

// lastScans says how the last scan of each tree went, without the gaps.
func (w *workspaces) lastScans() []*apiv1.WorkspaceStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]*apiv1.WorkspaceStatus, 0, len(w.all))
	for _, g := range w.all {
		out = append(out, &apiv1.WorkspaceStatus{Name: g.config.Name, LastScan: g.last})
	}
	return out
}

func (w *workspaces) status(ctx context.Context, g *governed) *apiv1.WorkspaceStatus {
	w.mu.Lock()
	s := &apiv1.WorkspaceStatus{Name: g.config.Name, Path: g.config.Path, State: "idle", LastScan: g.last}
	switch {
	case g.run != nil:
		s.State = "scanning"
	case g.last == nil:
		s.State = "never scanned"
	}
	w.mu.Unlock()
	counts, err := w.gaps.Counts(ctx, g.config.Name)
	if err != nil {
		w.logger.Warn("count gaps", "workspace", g.config.Name, "error", err)
		return s
	}
	s.Gaps = api.GapCounts(counts)
	return s
}

// close ends all schedules and scans, and waits for them.
func (w *workspaces) close() {
	w.cancel()
	w.wg.Wait()
}
