package startup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/audit/ship"
	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/flow"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/halt"
	"github.com/sop-host/sop/host/internal/hook"
	"github.com/sop-host/sop/host/internal/machine"
	"github.com/sop-host/sop/host/internal/maintenance"
	"github.com/sop-host/sop/host/internal/metrics"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/socket"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/host/internal/trace"
	"github.com/sop-host/sop/host/internal/verify"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/heap"
)

// host is the resident process. Its parts are made in Run and do not change;
// what a reload replaces is in loaded.
type host struct {
	opt         Options
	begin       time.Time
	up          chan struct{} // closed when all that comes up at the start has, or has failed
	dir         dataDir
	logger      hclog.Logger
	steps       *steps
	changed     event.Notice
	bus         event.Bus
	store       *store.DB
	pool        *plugin.Pool
	components  *component.Supervisor
	emergency   *emergency
	audit       *audit.Log
	facts       *audit.Queue // records of what has happened already
	looks       *nexus.Looks // who was let look at what
	ship        *ship.Set    // carries the log away
	reloaded    event.Notice
	gaps        *gap.Service
	tokens      *token.Service
	tasks       *task.Service
	agents      *agent.Service
	backups     *backup.Service
	schedules   atomic.Pointer[backup.Scheduler] // nil: the host is starting
	patches     *patches
	gate        *gate
	secrets     func(purpose string) []byte // keys derived from the host's
	workspaces  *workspaces
	protocols   *protocol.Service
	upProtocols upProtocols
	scaffolds   scaffoldSets
	door        *nexus.Nexus
	flow        *flow.Engine
	work        event.Notice    // tasks or patches have changed
	runner      *sandbox.Runner // nil: runs cannot be had; runnerErr says why
	runnerErr   error
	verifier    *verify.Verifier

	maintenance *maintenance.Service
	hooks       *hook.Service
	maintained  *maintained // where the host's own subsystems report

	server  *api.Server // made before the first plugin starts
	policy  policy.Live
	watcher *config.Watcher
	metrics *metrics.Metrics
	tracer  atomic.Pointer[trace.Tracer] // nil: traces are off
	spans   trace.Counts                 // of all tracers
	probe   probe
	levels  sandboxLevels

	manager       serviceManager
	meter         *machine.Meter
	verified      verified
	loop          mainLoop
	tokensCounted counted[token.Count]
	tasksCounted  counted[task.Count]

	loaded    atomic.Pointer[loaded]
	verdict   atomic.Pointer[apiv1.ReloadVerdict]
	phase     atomic.Pointer[string] // "starting", "running" or "stopping"
	reloading sync.Mutex
}

const (
	phaseStarting = "starting"
	phaseRunning  = "running"
	phaseStopping = "stopping"
)

// apiGrace is how long calls may take to finish when the host stops.
const apiGrace = 2 * time.Second

// Run runs the host until ctx is done, and stops it gracefully then. It returns
// an error when the host could not start; a plugin that does not start is no
// such error, it stands in the status. SIGHUP makes it reload.
func Run(ctx context.Context, opt Options) (err error) {
	defer heap.Floor(heap.Host)()
	h := &host{opt: opt, begin: time.Now(), metrics: metrics.New(opt.Version), up: make(chan struct{})}
	h.setPhase(phaseStarting)
	watcher, first, diags, err := watchAndLoad(opt)
	if err != nil {
		return err
	}
	if first == nil {
		return diags
	}
	if ds := checkLoaded(first.config); ds.HasErrors() {
		return ds
	}
	h.loaded.Store(first)
	h.policy.Replace(first.policies)
	h.watcher = watcher
	h.dir = dataDir(first.config.Host.DataDir)
	h.manager = newServiceManager(os.Getenv)
	h.loop.asked = make(chan struct{})
	h.emergency = &emergency{host: h, mark: halt.Mark{Dir: h.dir.emergency()}}

	var undo closers
	defer func() { err = errors.Join(err, undo.close()) }()
	if err := h.open(ctx, &undo, first); err != nil {
		return err
	}
	serve, err := h.serveAPI(ctx, &undo, first)
	if err != nil {
		return err
	}
	if err := h.startComponents(first); err != nil {
		return err
	}
	h.startPlugins(ctx, first)
	h.settleComponents(ctx)
	if err := h.startWorkspaces(&undo, first); err != nil {
		return err
	}
	if err := h.startSchedules(ctx, &undo, first); err != nil {
		return err
	}
	h.forgetRemoved(ctx)
	undo.add(background(ctx, h.watchPressure))
	undo.add(background(ctx, h.verifyAudit))
	undo.add(background(ctx, h.watchProtocols))
	undo.add(background(ctx, h.probeLevels))
	h.startFlow(ctx, &undo)
	undo.add(background(ctx, h.planTasks))
	h.startHooks(ctx, &undo)
	h.verdict.Store(&apiv1.ReloadVerdict{At: timestamppb.Now(), Ok: true, Trigger: "start", Changes: api.PlannedChanges(diff(nil, first)), Diagnostics: api.ConfigDiagnostics(diags, diagnosticText)})
	h.setPhase(phaseRunning)
	h.steps.add(Step{Component: "host", Phase: "ready", Detail: fmt.Sprintf("resident, pid %d", os.Getpid())})
	h.logger.Info("host ready", "pid", os.Getpid(), "took", time.Since(h.begin))

	h.notifyReady()
	close(h.up)
	undo.add(background(ctx, h.feedWatchdog))

	err = h.reside(ctx, watcher, serve)
	h.setPhase(phaseStopping)
	h.notify("STOPPING=1", "STATUS=stopping")
	h.steps.add(Step{Component: "host", Phase: "stopping"})
	return err
}

// watchAndLoad makes the watcher before it loads what counts, so that no change
// is missed; how long the watcher waits stands in the configuration too.
func watchAndLoad(opt Options) (*config.Watcher, *loaded, config.Diagnostics, error) {
	cfg, diags := config.Load(opt.ConfigPath, config.Options{PluginsDir: opt.PluginsDir})
	if cfg == nil {
		return nil, nil, diags, nil
	}
	watcher, err := config.NewWatcher(opt.ConfigPath, cfg.Host.ReloadDebounce)
	if err != nil {
		return nil, nil, nil, err
	}
	watcher.Follow(cfg.Policy.Dir, policy.Extension)
	first, diags := load(opt.ConfigPath, opt.PluginsDir)
	return watcher, first, diags, nil
}

// closers undo what was done, last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var failed []error
	for i := len(*c) - 1; i >= 0; i-- {
		failed = append(failed, (*c)[i]())
	}
	return errors.Join(failed...)
}

// open takes the data directory, opens log and store, and makes the pool.
func (h *host) open(ctx context.Context, undo *closers, first *loaded) error {
	if err := h.dir.create(); err != nil {
		return err
	}
	release, err := h.dir.acquire()
	if err != nil {
		return err
	}
	undo.add(release)
	logger, logFile := newLogger(h.dir, first.config.Host.LogLevel, h.opt.LogWriter)
	h.logger = logger
	undo.add(logFile.Close)
	h.logger.Info("host starting", "version", h.opt.Version, "config", first.config.Path, "data_dir", string(h.dir))
	if h.steps, err = newSteps(h.dir, h.opt.OnStep, logger); err != nil {
		return err
	}
	undo.add(func() error {
		h.steps.add(Step{Component: "host", Phase: "stopped"})
		h.steps.close()
		return nil
	})
	h.steps.add(Step{Component: "config", Phase: "ready", Detail: first.config.Path})

	if err := h.dir.complete(); err != nil {
		return err
	}
	db, err := store.Open(ctx, h.dir.database())
	if err != nil {
		return err
	}
	h.store = db
	if aside := db.LogAside(); aside != "" {
		h.logger.Warn("the database was restored over another; the log of that one was put aside, and may be deleted", "log", aside)
	}
	db.OnGroup(h.metrics.Committed)
	undo.add(db.Close)
	undo.add(h.startTraces(ctx, first.config))
	if err := h.openAudit(ctx, undo, first); err != nil {
		return err
	}
	h.gaps = gap.NewService(db.Gaps(), h.publisher())
	undo.add(func() error { h.bus.Close(); return nil })
	h.steps.add(Step{Component: "store", Phase: "ready", Detail: h.dir.database()})
	if err := h.openTokens(ctx, undo); err != nil {
		return err
	}
	if err := errors.Join(h.openAgents(ctx, undo), h.openMaintenance(ctx, undo), h.openTasks(ctx, undo), h.openPatches(ctx, undo, first)); err != nil {
		return err
	}
	undo.add(background(ctx, h.endForfeited))

	h.pool, err = plugin.New(plugin.Options{
		RunDir: h.dir.run(), Logger: logger.Named("plugin"), HostVersion: h.opt.Version, OnEvent: h.onPluginEvent, SandboxLauncher: sandboxLauncher, Halted: h.emergency.check,
		Callbacks: func(l net.Listener, id string) error { return h.server.ServePlugin(l, id) },
		Admit:     h.admit,
		Locked:    h.lockedHash,
	})
	if err != nil {
		return err
	}
	undo.add(h.pool.Close)
	if err := h.openComponents(undo); err != nil {
		return err
	}
	if err := h.openEmergency(undo); err != nil {
		return err
	}
	if err := h.emergency.begin(ctx); err != nil {
		return err
	}
	h.meter = h.newMeter()
	undo.add(background(ctx, h.meter.Run))
	return h.openProtocols(undo)
}

// onPluginEvent puts a plugin's step on the timeline.
func (h *host) onPluginEvent(e plugin.Event) {
	step := Step{Component: "plugin " + e.ID, Phase: string(e.Phase), Instance: e.Generation}
	if e.Err != nil {
		pe := sdk.FromError(e.Err)
		step.Detail, step.Remedy = pe.Message, pe.Remedy
	}
	if e.Phase == plugin.PhaseReady {
		step.Detail = fmt.Sprintf("generation %d", e.Generation)
	}
	h.steps.add(step)
	h.recordPlugin(e)
	h.lostPlugin(e)
	h.maintainPlugin(e)
	h.changed.Tell()
}

// serveAPI begins to serve, so that the host can be asked how its start goes.
// The channel yields what serving ended with.
func (h *host) serveAPI(ctx context.Context, undo *closers, first *loaded) (<-chan error, error) {
	scans, endScans := context.WithCancel(context.WithoutCancel(ctx)) // scans outlive the request that began them, and are ended in turn
	h.workspaces = &workspaces{
		ctx: scans, cancel: endScans, store: h.store.Gaps(), publisher: h.publisher(), gaps: h.gaps, tokens: h.theTokens(), onScan: h.opt.OnScan,
		detectors:  func() []gap.Detector { return detectorsOf(h.pool) },
		configured: h.configuredDetectors,
		changed:    h.changed.Tell, logger: h.logger.Named("scan"), all: make(map[string]*governed),
		dataDir: string(h.dir), tracer: h.tracer.Load,
	}
	h.openBackups()
	h.openFlow(undo)
	opts, err := h.apiOptions(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := api.Listen(h.dir.socket())
	if err != nil {
		return nil, err
	}
	if h.door, err = h.newDoor(); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(h.dir.socket()))
	}
	h.server = api.NewServer(h.door, opts...)
	if err := h.openGate(ctx, undo, h.server, first.config); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(h.dir.socket()))
	}
	h.server.Observe(api.Observers{Meter: h.metrics, Metrics: h.metrics.Handler(h.measure), Tracer: h.tracer.Load, Health: h, Fact: h.facts.Record})
	step := &doorstep{path: h.dir.socket(), serve: h.server.Serve, again: h.gate.socketAgain, told: func(err error) {
		if h.gate.socketTrouble(err); err == nil {
			h.steps.add(Step{Component: "api", Phase: "ready", Detail: h.dir.socket() + ", made anew"})
		}
	}}
	done := make(chan error, 1)
	go func() { done <- step.run(listener, cmp.Or(h.opt.socketEvery, socketEvery)) }()
	undo.add(func() error {
		step.stop()
		return h.stopAPI(listener)
	})
	if remove, err := socket.Announce(h.opt.ConfigPath, h.dir.socket()); err != nil {
		h.logger.Warn("commands will not find the host when its configuration is edited or deleted", "error", err)
	} else {
		undo.add(remove)
	}
	h.steps.add(Step{Component: "api", Phase: "ready", Detail: h.dir.socket()})
	return done, nil
}

func (h *host) stopAPI(listener net.Listener) error {
	ctx, cancel := context.WithTimeout(context.Background(), apiGrace)
	defer cancel()
	h.changed.Tell() // watchers see that it stops
	err := h.server.Shutdown(ctx)
	if closeErr := listener.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	if rmErr := os.Remove(h.dir.socket()); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// startPlugins brings all plugins up; one that fails does not keep the host
// from starting.
func (h *host) startPlugins(ctx context.Context, first *loaded) {
	for _, s := range first.specs {
		h.steps.add(Step{Component: "plugin " + s.ID(), Phase: "queued"})
	}
	h.protocols.Apply(protocolSettings(first.config)) // they wait for their plugins
	if err := h.pool.Start(ctx, first.specs); err != nil {
		h.logger.Warn("plugins are still starting", "error", err)
	}
}

func (h *host) startWorkspaces(undo *closers, first *loaded) error {
	undo.add(func() error { h.workspaces.close(); return nil })
	if err := h.workspaces.apply(first.config.Workspaces); err != nil {
		return err
	}
	for _, w := range first.config.Workspaces {
		h.steps.add(Step{Component: "workspace " + w.Name, Phase: "ready", Detail: w.Path})
	}
	return nil
}

// reside keeps the host up: it reloads when the configuration changes, on
// SIGHUP and on request, until ctx is done or the API fails.
func (h *host) reside(ctx context.Context, watcher *config.Watcher, served <-chan error) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- watcher.Run(watching) }()
	defer func() {
		stopWatching()
		if watched != nil {
			if err := <-watched; err != nil {
				h.logger.Warn("watch configuration", "error", err)
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case err := <-watched:
			watched = nil
			if ctx.Err() == nil {
				h.logger.Error("configuration is not watched any more; reload with SIGHUP or `sop reload`", "error", err)
			}
		case <-watcher.Changes():
			h.loop.reload(func() { h.reload(ctx, "file change") })
		case <-hup:
			h.loop.reload(func() { h.reload(ctx, "SIGHUP") })
		case <-h.loop.asked:
		}
	}
}

func (h *host) setPhase(phase string) {
	h.phase.Store(&phase)
	h.changed.Tell()
}

// Changed implements nexus.Host.
func (h *host) Changed() <-chan struct{} { return h.changed.Wait() }

// reasonStarting is why something is not to be had yet.
const reasonStarting = "HOST_STARTING"

// Reload implements nexus.Host. It waits for the start: what the host begins with is
// brought up as a whole.
func (h *host) Reload(ctx context.Context) (*apiv1.ReloadVerdict, error) {
	select {
	case <-h.up:
		return h.reload(ctx, "request"), nil
	case <-ctx.Done():
		e := sdk.Errorf(codes.Unavailable, reasonStarting, "the host is still starting: %w", ctx.Err()).
			WithRemedy("`sop status` says what it waits for; it takes the configuration over by itself when it has started")
		e.Retryable = true
		return nil, e
	}
}

// Plan implements nexus.Host.
func (h *host) Plan(context.Context) (*apiv1.PlanResponse, error) {
	next, diags := load(h.opt.ConfigPath, h.opt.PluginsDir)
	resp := new(apiv1.PlanResponse)
	if next != nil {
		changes := diff(h.loaded.Load(), next)
		resp.Changes = api.PlannedChanges(changes)
		diags = append(diags, checkLocked(next, changes)...)
	}
	resp.Diagnostics = api.ConfigDiagnostics(diags, diagnosticText)
	return resp, nil
}

// Status implements nexus.Host.
func (h *host) Status(ctx context.Context) (*apiv1.Status, error) {
	l := h.loaded.Load()
	workspaces, err := h.workspaces.List(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := h.gaps.Counts(ctx, "")
	if err != nil {
		return nil, err
	}
	s := &apiv1.Status{
		State: *h.phase.Load(), Version: h.opt.Version, Pid: int32(os.Getpid()), StartedAt: timestamppb.New(h.begin),
		ConfigPath: l.config.Path, DataDir: string(h.dir), LastReload: h.verdict.Load(),
		Plugins: api.PluginStatuses(h.pool.Status()), Workspaces: workspaces, Gaps: api.GapCounts(counts),
		Components: api.ComponentStatuses(h.components.Status()), Emergency: h.emergency.State(),
	}
	s.Sandbox = h.levels.status(l.config)
	sinks, err := h.ship.Sinks(ctx)
	if err != nil {
		return nil, err
	}
	s.Backups = h.scheduleStatuses()
	s.Reasons = slices.Concat(degraded(s), h.storeReasons(ctx), sandboxReasons(l.config, s.GetSandbox()), h.accessProblems(ctx), sinkReasons(sinks), h.protocols.Problems(), backupReasons(s.GetBackups()), h.patches.reasons(), h.verified.reasons())
	if err := h.addStandings(ctx, s); err != nil {
		return nil, err
	}
	if s.GetState() == phaseRunning {
		s.State = overall(s)
	}
	return s, nil
}

// overall is the state of a running host.
func overall(s *apiv1.Status) string {
	_, failed := componentReasons(s.GetComponents())
	switch {
	case s.GetEmergency() != nil:
		return "stopped"
	case failed:
		return "failed"
	case len(s.GetReasons()) > 0:
		return "degraded"
	}
	return "ok"
}

// degraded says what is not as it should be, one sentence each.
func degraded(s *apiv1.Status) []string {
	reasons, _ := componentReasons(s.GetComponents())
	if e := s.GetEmergency(); e != nil {
		reasons = append(reasons, fmt.Sprintf("everything was stopped in an emergency by %s: `sop resume` lifts it", e.GetBy()))
	}
	for _, p := range s.GetPlugins() {
		if p.GetState() != string(plugin.StateReady) {
			reasons = append(reasons, fmt.Sprintf("plugin %s is %s", p.GetId(), p.GetState()))
		}
	}
	if r := s.GetLastReload(); r != nil && !r.GetOk() {
		reasons = append(reasons, "the configuration as it stands was refused; the one before is in force")
	}
	for _, w := range s.GetWorkspaces() {
		if scan := w.GetLastScan(); scan != nil && !scan.GetComplete() {
			reasons = append(reasons, fmt.Sprintf("the last scan of workspace %s is not complete", w.GetName()))
		}
	}
	return reasons
}
