package startup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/metrics"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// meteredBus counts what features tell before it passes it on.
type meteredBus struct {
	*event.Bus
	metrics *metrics.Metrics
}

// publisher is the bus as features see it.
func (h *host) publisher() *meteredBus { return &meteredBus{&h.bus, h.metrics} }

// Publish implements the Publisher of the features.
func (b *meteredBus) Publish(e any) {
	if s, ok := e.(gap.ScanFinished); ok {
		outcome := "complete"
		switch {
		case s.Err != nil:
			outcome = "failed"
		case !s.Result.Complete:
			outcome = "incomplete"
		}
		b.metrics.Scanned(s.Result.Workspace, outcome, s.Result.Duration, s.Result.Files)
	}
	b.Bus.Publish(e)
}

// meteredTokens counts what is done with tokens. It implements nexus.Tokens.
type meteredTokens struct {
	*token.Service
	metrics *metrics.Metrics
	halted  func() error // why no token is given out or accepted; nil when they are
}

// theTokens are what the host serves.
func (h *host) theTokens() *meteredTokens {
	return &meteredTokens{h.tokens, h.metrics, h.emergency.check}
}

// Issue implements nexus.Tokens.
func (m *meteredTokens) Issue(ctx context.Context, spec token.Spec) (token.Secret, *token.Token, error) {
	if err := m.halted(); err != nil {
		return token.Secret{}, nil, err
	}
	secret, t, err := m.Service.Issue(ctx, spec)
	if err == nil {
		m.metrics.TokenIssued(string(t.Type))
	}
	return secret, t, err
}

// IssueChild implements nexus.Tokens.
func (m *meteredTokens) IssueChild(ctx context.Context, secret string, holder token.Request, spec token.Spec) (token.Secret, *token.Token, error) {
	if err := m.halted(); err != nil {
		return token.Secret{}, nil, err
	}
	child, t, err := m.Service.IssueChild(ctx, secret, holder, spec)
	if err == nil {
		m.metrics.TokenIssued(string(t.Type))
	}
	m.refused(secret, err)
	return child, t, err
}

// Validate implements nexus.Tokens.
func (m *meteredTokens) Validate(ctx context.Context, secret string, req token.Request) (*token.Token, error) {
	if err := m.halted(); err != nil {
		return nil, err
	}
	t, err := m.Service.Validate(ctx, secret, req)
	m.refused(secret, err)
	return t, err
}

// Consume implements nexus.Tokens.
func (m *meteredTokens) Consume(ctx context.Context, secret string, req token.Request) (token.Use, error) {
	if err := m.halted(); err != nil {
		return token.Use{}, err
	}
	use, err := m.Service.Consume(ctx, secret, req)
	if kind, ok := token.TypeOf(secret); ok && err == nil && !use.Again {
		m.metrics.TokenUsed(string(kind))
	}
	m.refused(secret, err)
	return use, err
}

// Renew implements nexus.Tokens.
func (m *meteredTokens) Renew(ctx context.Context, ref string, ttl time.Duration, by, why string) (*token.Token, error) {
	if err := m.halted(); err != nil {
		return nil, err
	}
	return m.Service.Renew(ctx, ref, ttl, by, why)
}

// refused counts a refusal by the reason that the caller may not be told.
func (m *meteredTokens) refused(secret string, err error) {
	if err == nil {
		return
	}
	why := sdk.FromError(err)
	if why.Code != codes.PermissionDenied && why.Code != codes.ResourceExhausted {
		return
	}
	if hidden := (*sdk.Error)(nil); why.Reason == token.ReasonDenied && errors.As(why.Cause, &hidden) {
		why = hidden
	}
	kind, _ := token.TypeOf(secret)
	m.metrics.TokenRefused(string(kind), why.Reason)
}

// meteredAudit measures the log, and asks for maintenance of one that is not as it
// was written. It implements nexus.Audit.
type meteredAudit struct {
	*audit.Log
	metrics    *metrics.Metrics
	maintained *maintained
	verified   *verified
}

// What verifications find.
const (
	outcomeOK    = "ok"
	outcomeFault = "fault"
	outcomeError = "error"
)

// Append implements nexus.Audit.
func (m *meteredAudit) Append(ctx context.Context, records ...audit.Record) error {
	begin := time.Now()
	err := m.Log.Append(ctx, records...)
	m.metrics.Appended(time.Since(begin), err)
	return err
}

// Verify implements nexus.Audit.
func (m *meteredAudit) Verify(ctx context.Context, checkpoints ...string) (*audit.Report, error) {
	begin := time.Now()
	report, err := m.Log.Verify(ctx, checkpoints...)
	outcome := outcomeOK
	switch {
	case err != nil:
		outcome = outcomeError
	case report.Fault != nil:
		outcome = outcomeFault
	}
	m.metrics.Verified(outcome, time.Since(begin))
	if ctx.Err() == nil { // one that was given up says nothing
		if err := m.verified.note(verification{time.Now(), outcome}); err != nil {
			m.maintained.host.logger.Warn("keep what a verification of the audit log found", "error", err)
		}
	}
	if err == nil {
		m.maintain(ctx, report)
	}
	return report, err
}

// maintain says how a verification went. A checkpoint that is nobody's says nothing
// about the log.
func (m *meteredAudit) maintain(ctx context.Context, r *audit.Report) {
	ctx = context.WithoutCancel(ctx)
	switch {
	case r.Fault == nil:
		_ = m.maintained.Healthy(ctx, subsystemAudit) // logged
	case r.Fault.Kind != audit.Unverified:
		_ = m.maintained.File(ctx, subsystemAudit, fmt.Sprintf("The audit log is not as it was written: record %d is %s: %s.", r.Fault.Seq, r.Fault.Kind, r.Fault.Detail),
			"see docs/audit.md, and find out who could write to the data_dir", "critical") // logged
	}
}

// measure says how everything stands, for the metrics.
func (h *host) measure(ctx context.Context) metrics.State {
	s := metrics.State{
		Host: *h.phase.Load(), HostStates: []string{phaseStarting, phaseRunning, phaseStopping},
		Store: metrics.Store{Writers: h.store.Waiting()},
	}
	unread := func(part string, err error) {
		if err != nil {
			h.logger.Warn("read metrics", "part", part, "error", err)
			s.Unread = append(s.Unread, part)
		}
	}
	var err error
	s.Gaps, err = h.countGaps(ctx)
	unread("gaps", err)
	tokens, err := h.countTokens(ctx)
	unread("tokens", err)
	for _, t := range tokens {
		s.Tokens = append(s.Tokens, metrics.Tokens{Type: string(t.Type), State: string(t.State), Count: t.Tokens})
	}
	tasks, err := h.countTasks(ctx)
	unread("tasks", err)
	for _, t := range tasks {
		s.Tasks = append(s.Tasks, metrics.Tasks{Workspace: t.Workspace, Kind: string(t.Kind), State: string(t.State), Count: t.Tasks})
	}
	s.Store.Size, err = h.store.Size()
	unread("store", err)
	head, err := h.store.Audit().Head(ctx)
	unread("audit", err)
	s.Audit.Records = head.Size
	s.Audit.Waiting, s.Audit.Lost = h.facts.Stats()
	s.Events = metrics.Events(h.bus.Stats())
	s.Spans.Exported, s.Spans.Failed = h.spans.Exported(), h.spans.Failed()
	h.measurePlugins(&s)
	h.measureComponents(&s)
	h.measureProtocols(&s)
	s.Degraded = len(h.degraded())
	return s
}

func (h *host) countGaps(ctx context.Context) ([]metrics.Gaps, error) {
	counts, err := h.gaps.Counts(ctx, "")
	out := make([]metrics.Gaps, len(counts))
	for i, c := range counts {
		out[i] = metrics.Gaps{Workspace: c.Workspace, State: string(c.State), Severity: c.Severity.String(), Count: c.Gaps}
	}
	return out, err
}

func (h *host) measurePlugins(s *metrics.State) {
	for _, state := range plugin.States() {
		s.PluginStates = append(s.PluginStates, string(state))
	}
	for _, p := range h.pool.Status() {
		s.Plugins = append(s.Plugins, metrics.Plugin{
			ID: p.ID, State: string(p.State), Generation: p.Generation, Restarts: p.Restarts,
			Calls: p.Calls, Failures: p.Failures, InFlight: p.InFlight, Busy: p.Busy, DroppedLogLines: p.DroppedLogLines,
		})
	}
}

func (h *host) measureComponents(s *metrics.State) {
	for _, state := range component.States() {
		s.ComponentStates = append(s.ComponentStates, string(state))
	}
	for _, c := range h.components.Status() {
		s.Components = append(s.Components, metrics.Component{
			Name: c.Name, State: string(c.State), Restarts: c.Restarts, Probed: !c.LastProbe.At.IsZero(), Passed: c.LastProbe.OK, DroppedLines: c.DroppedLines,
		})
	}
}

func (h *host) measureProtocols(s *metrics.State) {
	for _, state := range protocol.States() {
		s.ProtocolStates = append(s.ProtocolStates, string(state))
	}
	for _, p := range h.protocols.Standings() {
		s.Protocols = append(s.Protocols, metrics.Protocol{
			Name: p.Name, State: string(p.State), Calls: p.Calls, Failures: p.Failures, Refused: p.Refused, InFlight: p.InFlight, Waiting: p.Waiting,
		})
	}
}

// counted keeps what was counted for a while, the longer the more there is to
// count, so that whoever asks often costs little.
type counted[T any] struct {
	mu   sync.Mutex
	at   time.Time
	took time.Duration
	all  []T
}

const (
	countTokensEvery = 30 * time.Second // at most; they are all read
	countTasksEvery  = 5 * time.Second
	// countingPart is the part of the time in which it may be counted: one in so many.
	countingPart = 10
)

func (c *counted[T]) get(ctx context.Context, every time.Duration, count func(context.Context) ([]T, error)) ([]T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < min(every, countingPart*c.took) {
		return c.all, nil
	}
	now := time.Now()
	all, err := count(ctx)
	if err != nil {
		return nil, err
	}
	c.at, c.took, c.all = now, time.Since(now), all
	return all, nil
}

func (h *host) countTokens(ctx context.Context) ([]token.Count, error) {
	return h.tokensCounted.get(ctx, countTokensEvery, func(ctx context.Context) ([]token.Count, error) { return h.store.CountTokens(ctx, time.Now()) })
}

func (h *host) countTasks(ctx context.Context) ([]task.Count, error) {
	return h.tasksCounted.get(ctx, countTasksEvery, h.tasks.Counts)
}

// probe tries now and then whether the host can keep what it does.
type probe struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

const (
	probeEvery = time.Second
	probeTime  = 2 * time.Second
)

// writable returns what keeps the store, and with it the audit log, from being
// written to.
func (p *probe) writable(ctx context.Context, try func(context.Context) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && time.Since(p.at) < probeEvery {
		return p.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
	defer cancel()
	p.err = try(ctx)
	p.at = time.Now()
	return p.err
}

func unwritable(err error) string {
	return fmt.Sprintf("the store and the audit log cannot be written: %v", err)
}

// storeReasons says what keeps the store from being written to, where a write was
// refused.
func (h *host) storeReasons(ctx context.Context) []string {
	if h.store.Refused() == nil {
		return nil
	}
	if err := h.probe.writable(ctx, h.store.Writable); err != nil {
		return []string{unwritable(err)}
	}
	return nil
}

// degraded says what is not as it should be.
func (h *host) degraded() []string {
	return degraded(&apiv1.Status{
		Plugins: api.PluginStatuses(h.pool.Status()), LastReload: h.verdict.Load(), Workspaces: h.workspaces.lastScans(),
		Components: api.ComponentStatuses(h.components.Status()), Emergency: h.emergency.State(),
	})
}

// Readiness implements api.Health.
func (h *host) Readiness(ctx context.Context) api.Readiness {
	if phase := *h.phase.Load(); phase != phaseRunning {
		return api.Readiness{State: phase, Reasons: []string{"the host is " + phase}}
	}
	if err := h.probe.writable(ctx, h.store.Writable); err != nil {
		return api.Readiness{State: "unavailable", Reasons: []string{unwritable(err)}}
	}
	if reasons := h.degraded(); len(reasons) > 0 {
		return api.Readiness{Ready: true, State: "degraded", Reasons: reasons}
	}
	return api.Readiness{Ready: true, State: "ok"}
}
