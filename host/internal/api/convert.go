package api

import (
	"cmp"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// stamp converts a time; the zero time is absent.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func stampOf(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return stamp(*t)
}

// GapRecord converts a gap.
func GapRecord(g *gap.Gap) *apiv1.GapRecord {
	r := &apiv1.GapRecord{
		Id: g.ID, Fingerprint: g.Fingerprint, Workspace: g.Workspace, Rule: g.Rule, RuleVersion: g.RuleVersion,
		Type: string(g.Type), Severity: g.Severity.String(), Confidence: g.Confidence.String(),
		Path: g.Path, Line: int32(g.Line), EndLine: int32(g.EndLine), Column: int32(g.Column), Symbol: g.Symbol,
		Message: g.Message, Remedy: g.Remedy, Evidence: g.Evidence, Detector: g.Detector, DetectorVersion: g.DetectorVersion,
		State: string(g.State), Resolution: string(g.Resolution),
		FirstSeen: stamp(g.FirstSeen), LastSeen: stamp(g.LastSeen), ResolvedAt: stampOf(g.ResolvedAt),
	}
	if g.Suppression != nil {
		r.SuppressReason, r.SuppressUntil = g.Suppression.Reason, stampOf(g.Suppression.Until)
	}
	for _, c := range g.History {
		r.History = append(r.History, &apiv1.GapTransition{
			At: stamp(c.At), From: string(c.From), To: string(c.To), By: c.By, Reason: c.Why,
		})
	}
	return r
}

// GapCounts sums counts up by severity; suppressed and resolved gaps are
// counted apart.
func GapCounts(counts []gap.Count) *apiv1.GapCounts {
	out := &apiv1.GapCounts{}
	by := map[gap.Severity]*int64{
		gap.SeverityCritical: &out.Critical, gap.SeverityHigh: &out.High, gap.SeverityMedium: &out.Medium,
		gap.SeverityLow: &out.Low, gap.SeverityInfo: &out.Info,
	}
	for _, c := range counts {
		switch {
		case c.State == gap.StateResolved:
			out.Resolved += int64(c.Gaps)
		case c.State == gap.StateSuppressed:
			out.Suppressed += int64(c.Gaps)
		case by[c.Severity] != nil:
			*by[c.Severity] += int64(c.Gaps)
		}
	}
	return out
}

// PluginStatuses converts the status of all plugins.
func PluginStatuses(all []plugin.Status) []*apiv1.PluginStatus {
	out := make([]*apiv1.PluginStatus, len(all))
	for i, s := range all {
		out[i] = pluginStatus(s)
	}
	return out
}

func pluginStatus(s plugin.Status) *apiv1.PluginStatus {
	out := &apiv1.PluginStatus{
		Id: s.ID, Kind: s.Kind, Name: s.Name, Version: s.Version, Summary: s.Summary, State: string(s.State), Since: stamp(s.Since),
		Generation: int32(s.Generation), Pid: int32(s.PID), Restarts: int32(s.Restarts), RetryAt: stamp(s.RetryAt),
		Command: s.Command, Hash: s.Hash, Containment: string(s.Containment),
		Calls: s.Calls, Failures: s.Failures, InFlight: s.InFlight, DroppedLogLines: s.DroppedLogLines,
		Cgroup: s.Cgroup, CgroupRefused: s.CgroupRefused,
	}
	if s.PID != 0 {
		out.Sandbox = cmp.Or(s.Sandbox.Level, "none")
		out.SandboxProfile, out.LandlockAbi = s.Sandbox.Profile, int32(s.Sandbox.LandlockABI)
	}
	if s.Cgroup != "" {
		out.Limits = &apiv1.PluginLimits{Memory: s.Limits.Memory, Pids: int64(s.Limits.PIDs), Cpus: s.Limits.CPUs}
		out.Usage = &apiv1.PluginUsage{
			Memory: s.Usage.Memory, MemoryPeak: s.Usage.MemoryPeak, OomKills: s.Usage.OOMKills,
			Pids: s.Usage.PIDs, PidsPeak: s.Usage.PIDsPeak, PidsRefused: s.Usage.PIDsRefused, Cpu: durationpb.New(s.Usage.CPU),
		}
	}
	if s.Calls > 0 {
		out.MeanCall = durationpb.New(s.Busy / time.Duration(s.Calls))
	}
	if s.LastError != nil {
		out.LastError = &apiv1.PluginError{
			Reason: s.LastError.Reason, Message: s.LastError.Message, Remedy: s.LastError.Remedy, At: stamp(s.LastErrorAt),
		}
	}
	return out
}

// ConfigDiagnostics converts diagnostics; text is what a terminal shows of each.
func ConfigDiagnostics(diags config.Diagnostics, text func(config.Diagnostic) string) []*apiv1.ConfigDiagnostic {
	out := make([]*apiv1.ConfigDiagnostic, len(diags))
	for i, d := range diags {
		out[i] = &apiv1.ConfigDiagnostic{
			Severity: string(d.Severity), Summary: d.Summary, Detail: d.Detail,
			File: d.File, Line: int32(d.Line), Column: int32(d.Column), Text: text(d),
		}
	}
	return out
}

// PlannedChanges converts what a reload does.
func PlannedChanges(changes []config.Change) []*apiv1.PlannedChange {
	out := make([]*apiv1.PlannedChange, len(changes))
	for i, c := range changes {
		subject := string(c.Object)
		if c.ID != "" {
			subject += " " + c.ID
		}
		out[i] = &apiv1.PlannedChange{Subject: subject, Action: string(c.Action), Reasons: c.Reasons}
	}
	return out
}

// maxDiagnostics bounds what a report carries.
const maxDiagnostics = 200

// ScanReport converts the outcome of a scan; err is why it failed as a whole.
func ScanReport(r *gap.ScanResult, err error) *apiv1.ScanReport {
	out := &apiv1.ScanReport{}
	if err != nil {
		out.Error = err.Error()
	}
	if r == nil {
		return out
	}
	out.Id, out.StartedAt, out.Took = r.ID, stamp(r.StartedAt), durationpb.New(r.Duration)
	out.Complete, out.Files = r.Complete && err == nil, int64(r.Files)
	out.Opened, out.Reopened, out.Resolved, out.Unchanged = int64(r.New), int64(r.Reopened), int64(r.Resolved), int64(r.Unchanged)
	out.DiagnosticsTotal, out.Skipped = int64(r.DiagnosticsTotal), r.Skipped
	for _, d := range r.Diagnostics[:min(len(r.Diagnostics), maxDiagnostics)] {
		out.Diagnostics = append(out.Diagnostics, &apiv1.ScanDiagnostic{
			Detector: d.Detector, Path: d.Path, Line: int32(d.Line), Reason: d.Reason, Message: d.Message, Remedy: d.Remedy,
		})
	}
	return out
}

// TokenRecord converts a token.
func TokenRecord(t *token.Token) *apiv1.TokenRecord {
	r := &apiv1.TokenRecord{
		Id: t.ID, Accessor: t.Accessor, Type: string(t.Type), State: string(t.State), Reason: t.Reason,
		Protocol: t.Protocol, Operations: t.Operations, Requester: t.Requester, Task: t.Task, Paths: t.Paths, Workspace: t.Workspace,
		IssuedBy: t.IssuedBy, Parent: t.Parent,
		CreatedAt: stamp(t.CreatedAt), NotBefore: stamp(t.NotBefore), ExpiresAt: stamp(t.ExpiresAt), Deadline: stamp(t.Deadline()), LastUse: stamp(t.LastUse),
		MaxUses: int64(t.MaxUses), Uses: int64(t.Uses), Reserved: int64(t.Reserved), Remaining: int64(t.Remaining()),
	}
	for _, c := range t.History {
		r.History = append(r.History, &apiv1.TokenChange{
			At: stamp(c.At), Action: string(c.Action), From: string(c.From), To: string(c.To), By: c.By, Reason: c.Why,
		})
	}
	return r
}
