package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(testNow.Add(-d)) }

func newTestApp(streams Streams) *app {
	return &app{
		Streams: streams,
		own: own{
			engine:  fakeEngine(""),
			version: version{Version: "1.2.3", Commit: "0123abc", Go: "go1.26", Platform: "linux/amd64", Contract: 1},
		},
		env: func(string) string { return "" },
		now: func() time.Time { return testNow },
	}
}

var testGaps = []*apiv1.GapRecord{
	{
		Id: "019cb000-0000-7000-8000-000000000001", Fingerprint: "v1:aa", Workspace: "main", Rule: "code.stub", RuleVersion: "1",
		Type: "functionality_missing", Severity: "high", Confidence: "high", Path: "cmd/run.go", Line: 12, EndLine: 14, Symbol: "Run",
		Message: "Run is a stub", Remedy: "write its body", Evidence: "func Run() {\n\tpanic(\"not implemented\")\n}",
		Detector: "code", DetectorVersion: "1.0.0", State: "open", FirstSeen: before(50 * time.Hour), LastSeen: before(time.Minute),
		History: []*apiv1.GapTransition{{At: before(50 * time.Hour), To: "open", By: "scan 1"}},
	},
	{
		Id: "019cb000-0000-7000-8000-000000000002", Fingerprint: "v1:bb", Workspace: "main", Rule: "docs.go.exported", RuleVersion: "1",
		Type: "documentation_incomplete", Severity: "low", Path: "a\u202e\x1b[31m.go", Line: 3, EndLine: 3,
		Message: "exported <T> has no comment", Detector: "docs", State: "open",
	},
	{
		Id: "019cb000-0000-7000-8000-000000000003", Workspace: "main", Rule: "docs.readme", Type: "documentation_incomplete",
		Severity: "medium", Path: ".", Message: "there is no README", Detector: "docs", State: "open",
	},
}

func testScan() *apiv1.ScanReport {
	return &apiv1.ScanReport{
		Id: "s1", StartedAt: before(time.Minute), Took: durationpb.New(1234 * time.Millisecond), Complete: true, Files: 120, Opened: 3,
		Skipped: map[string]int64{"vendored": 7, "binary": 30},
		Diagnostics: []*apiv1.ScanDiagnostic{
			{Detector: "docs", Path: "big.md", Reason: "TOO_LARGE", Message: "1.0 GiB is over the limit of 1 MiB"},
		},
		DiagnosticsTotal: 1,
	}
}

func testWorkspace() *apiv1.WorkspaceStatus {
	return &apiv1.WorkspaceStatus{
		Name: "main", Path: "/srv/main", State: "idle", LastScan: testScan(),
		Gaps: &apiv1.GapCounts{High: 1, Medium: 1, Low: 1, Suppressed: 2},
	}
}

func testStatus() *apiv1.Status {
	return &apiv1.Status{
		State: "ok", Version: "1.2.3", Pid: 41, StartedAt: before(3*time.Hour + 5*time.Minute), ConfigPath: "/etc/sop/config.hcl", DataDir: "/var/sop",
		LastReload: &apiv1.ReloadVerdict{At: before(time.Hour), Ok: true, Trigger: "start", Changes: testChanges(), Took: durationpb.New(80 * time.Millisecond)},
		Plugins: []*apiv1.PluginStatus{
			{
				Id: "detector.docs", Kind: "detector", Name: "docs", Version: "1.0.0", State: "ready", Since: before(3 * time.Hour), Generation: 1, Pid: 52, Calls: 9, MeanCall: durationpb.New(1500 * time.Microsecond), Summary: "finds missing documentation",
				Containment: "pid-namespace", Sandbox: "strict", SandboxProfile: "plugin", LandlockAbi: 7, Cgroup: "v2", Limits: &apiv1.PluginLimits{Memory: 1 << 30, Pids: 512, Cpus: 1.5},
				Usage: &apiv1.PluginUsage{
					Memory: 20 << 20, MemoryPeak: 50<<20 + 512<<10, Pids: 9, PidsPeak: 512, PidsRefused: 3, OomKills: 1,
					Cpu: durationpb.New(12340 * time.Millisecond),
				},
			},
		},
		Workspaces: []*apiv1.WorkspaceStatus{testWorkspace()},
		Gaps:       testWorkspace().GetGaps(),
		Protocols: []*apiv1.ProtocolStatus{
			{Name: "arp", State: "active", Mode: "active", Since: before(time.Hour), Calls: 7, Failures: 1, SelfTest: "passed"},
			{Name: "uip", State: "failed", Mode: "inactive", Since: before(time.Minute), Error: "its plugin does not answer"},
		},
		Tokens: []*apiv1.TokenCount{{Type: "todo", State: "active", Tokens: 2}, {Type: "operation", State: "revoked", Tokens: 9}},
		Tasks:  []*apiv1.TaskCount{{State: "awaiting_approval", Tasks: 1}, {State: "done", Tasks: 12}},
		Audit:  &apiv1.AuditStanding{Records: 1234, VerifiedAt: before(5 * time.Minute), Verified: "ok"}, LastBackup: before(2 * time.Hour),
		Resources: &apiv1.ResourceUse{
			At:      before(time.Second),
			Host:    &apiv1.ProcessUse{Processes: 1, CpuPercent: 1.25, Memory: 45_600_000, Threads: 12, OpenFiles: 34},
			Started: &apiv1.ProcessUse{Processes: 2, CpuPercent: 0.5, Memory: 120_000_000},
			Machine: &apiv1.MachineUse{
				Cpus: 2, CpuPercent: 37.4, Load1: 1.5, MemoryTotal: 8_000_000_000, MemoryAvailable: 3_100_000_000, Processes: 212,
				DiskTotal: 252_000_000_000, DiskFree: 73_000_000_000,
			},
		},
	}
}

func degradedStatus() *apiv1.Status {
	s := testStatus()
	s.State = "degraded"
	s.Reasons = []string{"plugin detector.code has failed", "the last reload was refused"}
	s.LastReload = refusedVerdict()
	s.Plugins = append(s.Plugins, &apiv1.PluginStatus{
		Id: "detector.code", State: "backoff", Since: before(20 * time.Second), Generation: 4, Restarts: 3, RetryAt: before(-8 * time.Second),
		LastError: &apiv1.PluginError{Reason: "PLUGIN_EXITED", Message: "exit status 2\x1b]0;", Remedy: "look at logs/host.log", At: before(20 * time.Second)},
	})
	return s
}

func testChanges() []*apiv1.PlannedChange {
	return []*apiv1.PlannedChange{
		{Subject: "host", Action: "unchanged"},
		{Subject: "plugin detector.docs", Action: "restart", Reasons: []string{"args", "hash"}},
		{Subject: "workspace main", Action: "start"},
	}
}

func refusedVerdict() *apiv1.ReloadVerdict {
	return &apiv1.ReloadVerdict{At: before(2 * time.Minute), Trigger: "file change", Diagnostics: []*apiv1.ConfigDiagnostic{{
		Severity: "error", Summary: "Unknown name", Detail: "Did you mean \"command\"?", File: "config.hcl", Line: 3, Column: 3,
		Text: "Error: Unknown name\n  on config.hcl:3:3\n  3 |   comand = \"x\"\n    |   ^^^^^^\nDid you mean \"command\"?\n",
	}}}
}

// fakeHost answers as in a scenario.
type fakeHost struct{ scenario string }

func (h fakeHost) failure() error {
	name, isError := strings.CutPrefix(h.scenario, "error:")
	if !isError {
		return nil
	}
	var code connect.Code
	if err := code.UnmarshalText([]byte(name)); err != nil {
		return err
	}
	err := connect.NewError(code, errors.New("the host said "+name))
	for _, m := range []proto.Message{
		&errdetails.ErrorInfo{Reason: "TEST_REASON", Domain: "sop", Metadata: map[string]string{"k": "v"}},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Description: "try something else"}}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "spec.x", Description: "is wrong"}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	} {
		detail, _ := connect.NewErrorDetail(m)
		err.AddDetail(detail)
	}
	return err
}

func answer[T any](h fakeHost, msg *T) (*connect.Response[T], error) {
	if err := h.failure(); err != nil {
		return nil, err
	}
	return connect.NewResponse(msg), nil
}

func (h fakeHost) status() *apiv1.Status {
	if h.scenario == "degraded" {
		return degradedStatus()
	}
	return testStatus()
}

func (h fakeHost) GetStatus(ctx context.Context, _ *connect.Request[apiv1.GetStatusRequest]) (*connect.Response[apiv1.GetStatusResponse], error) {
	if h.scenario == "slow" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return answer(h, &apiv1.GetStatusResponse{Status: h.status()})
}

func (h fakeHost) WatchStatus(ctx context.Context, _ *connect.Request[apiv1.WatchStatusRequest], stream *connect.ServerStream[apiv1.WatchStatusResponse]) error {
	for range 2 {
		if err := stream.Send(&apiv1.WatchStatusResponse{Status: h.status()}); err != nil {
			return err
		}
	}
	if h.scenario == "forever" {
		<-ctx.Done()
		return ctx.Err() // as the host does
	}
	return h.failure()
}

func (h fakeHost) Reload(context.Context, *connect.Request[apiv1.ReloadRequest]) (*connect.Response[apiv1.ReloadResponse], error) {
	if h.scenario == "degraded" {
		return answer(h, &apiv1.ReloadResponse{Verdict: refusedVerdict()})
	}
	return answer(h, &apiv1.ReloadResponse{Verdict: testStatus().GetLastReload()})
}

func (h fakeHost) Plan(context.Context, *connect.Request[apiv1.PlanRequest]) (*connect.Response[apiv1.PlanResponse], error) {
	switch h.scenario {
	case "degraded":
		return answer(h, &apiv1.PlanResponse{Diagnostics: refusedVerdict().GetDiagnostics()})
	case "quiet":
		return answer(h, &apiv1.PlanResponse{Changes: testChanges()[:1]})
	}
	return answer(h, &apiv1.PlanResponse{Changes: testChanges()})
}

func (h fakeHost) ListPlugins(_ context.Context, r *connect.Request[apiv1.ListPluginsRequest]) (*connect.Response[apiv1.ListPluginsResponse], error) {
	if r.Msg.GetFilter() == "id = nothing" {
		return answer(h, &apiv1.ListPluginsResponse{})
	}
	return answer(h, &apiv1.ListPluginsResponse{Plugins: h.status().GetPlugins()})
}

func (h fakeHost) GetPlugin(_ context.Context, r *connect.Request[apiv1.GetPluginRequest]) (*connect.Response[apiv1.GetPluginResponse], error) {
	plugins := h.status().GetPlugins()
	shown := plugins[len(plugins)-1]
	for _, p := range plugins {
		if p.GetId() == r.Msg.GetId() {
			shown = p
		}
	}
	return answer(h, &apiv1.GetPluginResponse{Plugin: shown})
}

func (h fakeHost) RestartPlugin(context.Context, *connect.Request[apiv1.RestartPluginRequest]) (*connect.Response[apiv1.RestartPluginResponse], error) {
	return answer(h, &apiv1.RestartPluginResponse{Plugin: h.status().GetPlugins()[0]})
}

// ListGaps answers one gap a page, so that paging is tried.
func (h fakeHost) ListGaps(_ context.Context, r *connect.Request[apiv1.ListGapsRequest]) (*connect.Response[apiv1.ListGapsResponse], error) {
	if h.scenario == "quiet" {
		return answer(h, &apiv1.ListGapsResponse{})
	}
	order := []*apiv1.GapRecord{testGaps[0], testGaps[2], testGaps[1]}
	out := &apiv1.ListGapsResponse{Total: int64(len(order))}
	i := len(r.Msg.GetPageToken())
	out.Gaps = order[i : i+1]
	if i+1 < len(order) {
		out.NextPageToken = strings.Repeat("x", i+1)
	}
	return answer(h, out)
}

func (h fakeHost) GetGap(context.Context, *connect.Request[apiv1.GetGapRequest]) (*connect.Response[apiv1.GetGapResponse], error) {
	return answer(h, &apiv1.GetGapResponse{Gap: testGaps[0]})
}

func (h fakeHost) SuppressGap(_ context.Context, r *connect.Request[apiv1.SuppressGapRequest]) (*connect.Response[apiv1.SuppressGapResponse], error) {
	gap := proto.Clone(testGaps[0]).(*apiv1.GapRecord)
	gap.State, gap.SuppressReason, gap.SuppressUntil = "suppressed", r.Msg.GetReason(), r.Msg.GetUntil()
	return answer(h, &apiv1.SuppressGapResponse{Gap: gap})
}

func (h fakeHost) AcknowledgeGap(_ context.Context, r *connect.Request[apiv1.AcknowledgeGapRequest]) (*connect.Response[apiv1.AcknowledgeGapResponse], error) {
	gap := proto.Clone(testGaps[0]).(*apiv1.GapRecord)
	gap.State = "acknowledged"
	gap.History = append(gap.History, &apiv1.GapTransition{From: "open", To: "acknowledged", By: "uid:1", Reason: r.Msg.GetNote()})
	return answer(h, &apiv1.AcknowledgeGapResponse{Gap: gap})
}

func (h fakeHost) ReopenGap(context.Context, *connect.Request[apiv1.ReopenGapRequest]) (*connect.Response[apiv1.ReopenGapResponse], error) {
	return answer(h, &apiv1.ReopenGapResponse{Gap: testGaps[0]})
}

// serveFake serves a scenario on a socket until stop is called.
func serveFake(socket, scenario string) (stop func(), err error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	host := fakeHost{scenario}
	mux.Handle(apiv1connect.NewHostHandler(host))
	mux.Handle(apiv1connect.NewPluginHandler(host))
	mux.Handle(apiv1connect.NewGapHandler(host))
	mux.Handle(apiv1connect.NewWorkspaceHandler(fakeWorkspace{host}))
	mux.Handle(apiv1connect.NewPatchHandler(fakePatch{host}))
	mux.Handle(apiv1connect.NewTaskHandler(fakeTask{host}))
	mux.Handle(apiv1connect.NewTokenHandler(fakeToken{host}))
	mux.Handle(apiv1connect.NewAuditHandler(fakeAudit{fakeHost: host}))
	mux.Handle(apiv1connect.NewPolicyHandler(fakePolicy{fakeHost: host}))
	mux.Handle(apiv1connect.NewAgentHandler(fakeAgent{host}))
	mux.Handle(apiv1connect.NewEventHandler(fakeEvent{host}))
	mux.Handle(apiv1connect.NewProtocolHandler(fakeProtocol{host}))
	mux.Handle(apiv1connect.NewMaintenanceHandler(fakeMaintenance{host}))
	mux.Handle(apiv1connect.NewBackupHandler(fakeBackup{host}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}

// fakeEngine does its work as in a scenario.
func fakeEngine(scenario string) Engine {
	e := engineScenario(scenario)
	engine := hostEngine() // policies need no fake: they are files
	engine.Run, engine.ScanOnce, engine.Lock, engine.Validate, engine.Plan, engine.VerifyAudit = e.run, e.scan, e.lock, e.validate, e.plan, e.verifyAudit
	engine.Sandbox = e.sandbox()
	engine.Doctor, engine.SelfTest = e.doctor, e.selfTest
	return engine
}

type engineScenario string

func (e engineScenario) err() error {
	switch e {
	case "unavailable":
		return sdk.Errorf(codes.Unavailable, "PLUGIN_UNAVAILABLE", "detector.docs does not answer").WithRemedy("look at its log")
	case "locked":
		return sdk.Errorf(codes.AlreadyExists, "HOST_RUNNING", "another host uses /var/sop").WithRemedy("stop it first")
	case "timeout":
		return context.DeadlineExceeded
	}
	return nil
}

func (e engineScenario) run(_ context.Context, opt startup.Options) error {
	opt.OnStep(startup.Step{Component: "config", Phase: "ready", Detail: opt.ConfigPath})
	opt.OnStep(startup.Step{Elapsed: 12345678, Component: "plugin detector.docs", Phase: "starting"})
	opt.OnStep(startup.Step{Elapsed: 1500 * time.Millisecond, Component: "plugin detector.code", Phase: "failed", Detail: "wrong checksum\nlocked sha256:1", Remedy: "run `sop plugin lock`"})
	if opt.LogWriter != nil {
		_, _ = io.WriteString(opt.LogWriter, "a line of the log\n")
	}
	if e == "invalid" {
		return e.validate(opt.ConfigPath, "").Err()
	}
	return e.err()
}

func (e engineScenario) scan(_ context.Context, opt startup.ScanOptions) (*startup.ScanOutcome, error) {
	if err := e.err(); err != nil {
		return nil, err
	}
	out := &startup.ScanOutcome{
		Scan:  testScan(),
		Gaps:  append([]*apiv1.GapRecord{}, testGaps...),
		Rules: []startup.Rule{{ID: "code.stub", Version: "1", Summary: "A function without a body to speak of", Severity: "high"}},
	}
	switch {
	case e == "clean":
		out.Gaps, out.Scan.Diagnostics, out.Scan.DiagnosticsTotal = nil, nil, 0
	case e == "broken":
		out.Scan.Error, out.Scan.Complete = "detector.docs stopped", false
	case len(opt.Exclude) > 0:
		out.Gaps = out.Gaps[:1]
	}
	return out, nil
}

func (e engineScenario) lock(_ context.Context, _, _, _ string, check bool) ([]startup.LockChange, error) {
	action := "unchanged"
	if check {
		action = "updated"
	}
	return []startup.LockChange{{ID: "detector.docs", Action: action, Version: "1.0.0", Hash: "sha256:bb", OldHash: "sha256:aa"}}, e.err()
}

func (e engineScenario) validate(path, _ string) config.Diagnostics {
	if e != "invalid" {
		return nil
	}
	return config.Diagnostics{{
		Severity: config.SeverityError, Summary: "Unknown name", Detail: "Did you mean \"command\"?",
		Range: config.Range{File: path, Line: 1, Column: 1, EndLine: 1, EndColumn: 5}, Snippet: "host {",
	}}
}

func (e engineScenario) plan(context.Context, string, string) ([]*apiv1.PlannedChange, config.Diagnostics, error) {
	if e == "invalid" {
		return nil, e.validate("config.hcl", ""), nil
	}
	return testChanges()[1:], nil, e.err()
}
