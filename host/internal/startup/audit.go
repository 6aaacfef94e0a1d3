package startup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/store"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// actorHost is who acts where nobody asked.
const actorHost = "host"

// openAudit opens the log and records that the host starts; a host that cannot
// record does not start. The store is open, and closes after the log.
func (h *host) openAudit(ctx context.Context, undo *closers, first *loaded) error {
	key, err := audit.LoadKey(h.dir.join("state"))
	if err != nil {
		return err
	}
	logger := h.logger.Named("audit")
	h.openShip()
	h.audit, err = audit.NewLog(audit.Options{
		Store: h.store.Audit(), Key: key, Dir: h.dir.archives(),
		OnSigned: func(c *audit.Checkpoint) {
			h.metrics.Signed(c.Time)
			h.ship.Signed(c)
		},
		OnError: func(err error) { logger.Error("sign or archive the audit log", "error", err) },
	})
	if err != nil {
		return err
	}
	start := audit.Record{
		Actor: actorHost, Action: "host.start", Resource: "host", Outcome: audit.Success, Reason: "started",
		Attributes: map[string]string{"version": h.opt.Version, "pid": strconv.Itoa(os.Getpid()), "config": first.config.Path, "audit_key": key.Public},
	}
	if aside := h.store.LogAside(); aside != "" {
		start.Attributes["restored_over"] = aside
	}
	err = h.audit.Append(ctx, start)
	if err != nil {
		return err
	}
	if err := h.verified.load(h.dir.verification()); err != nil {
		logger.Warn("read what the last verification of the audit log found", "error", err)
	}
	h.facts = audit.NewQueue(h.audit.Append, func(err error) { logger.Error("facts could not be recorded", "error", err) })
	resident := context.WithoutCancel(ctx) // it is closed after all that records in it
	h.looks = nexus.NewLooks(h.facts.Record)
	ctx, cancel := context.WithCancel(resident)
	var working sync.WaitGroup
	working.Go(func() { h.flushLooks(ctx) })
	working.Go(func() { h.audit.Run(ctx) })
	working.Go(func() { h.audit.Retain(ctx, h.reloaded.Wait, h.retention) })
	h.ship.Apply(shipSpecs(&first.config.Audit))
	undo.add(func() error {
		h.looks.Flush()
		h.facts.Close()
		err := h.audit.Append(resident, audit.Record{
			Actor: actorHost, Action: "host.stop", Resource: "host", Outcome: audit.Success, Reason: "stopped gracefully",
		})
		cancel() // signs what has come
		working.Wait()
		h.ship.Close()
		return err
	})
	h.steps.add(Step{Component: "audit", Phase: "ready", Detail: key.Name()})
	return nil
}

// flushLooks records now and then who looked how often.
func (h *host) flushLooks(ctx context.Context) {
	tick := time.NewTicker(nexus.LooksEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.looks.Flush()
		case <-ctx.Done():
			return
		}
	}
}

// pluginActions are the steps in the life of a plugin that are records.
var pluginActions = map[plugin.Phase]struct {
	action  string
	outcome audit.Outcome
}{
	plugin.PhaseReady: {"plugin.start", audit.Success},
	"failed":          {"plugin.start", audit.Failure},
	"exited":          {"plugin.exit", audit.Failure},
	"unhealthy":       {"plugin.unhealthy", audit.Failure},
	"retired":         {"plugin.retire", audit.Success},
	"stopped":         {"plugin.stop", audit.Success},
}

// recordPlugin records a step in the life of a plugin. It does not block: the
// pool waits for whoever hears its events.
func (h *host) recordPlugin(e plugin.Event) {
	a, listed := pluginActions[e.Phase]
	if !listed {
		return
	}
	r := audit.Record{
		Time: e.At, Actor: actorHost, Action: a.action, Resource: "plugin/" + e.ID, Outcome: a.outcome,
		Attributes: map[string]string{"generation": strconv.Itoa(e.Generation)},
	}
	if e.PID != 0 {
		r.Attributes["pid"] = strconv.Itoa(e.PID)
	}
	if e.Err != nil {
		pe := sdk.FromError(e.Err)
		r.Reason, r.Attributes["code"] = pe.Message, pe.Reason
	}
	h.facts.Record(r)
}

// recordChange records what a reload is about to do. What cannot be recorded is
// not done.
func (h *host) recordChange(ctx context.Context, trigger string, changes []config.Change) error {
	attributes := map[string]string{"trigger": trigger, "changes": strconv.Itoa(countChanges(changes))}
	for _, c := range api.PlannedChanges(changes) {
		if c.GetAction() != string(config.ActionUnchanged) {
			attributes[c.GetSubject()] = fmt.Sprint(c.GetAction(), " ", c.GetReasons())
		}
	}
	return h.audit.Append(ctx, audit.Record{
		Actor: actorOf(ctx), Action: "config.reload", Resource: "config/" + h.opt.ConfigPath, Outcome: audit.Success, Reason: "taken over", Attributes: attributes,
	})
}

// recordRefusal records a configuration that was not taken over.
func (h *host) recordRefusal(ctx context.Context, trigger string, diags config.Diagnostics) {
	err := h.audit.Append(context.WithoutCancel(ctx), audit.Record{
		Actor: actorOf(ctx), Action: "config.reload", Resource: "config/" + h.opt.ConfigPath, Outcome: audit.Failure, Reason: diags.Error(),
		Attributes: map[string]string{"trigger": trigger},
	})
	if err != nil {
		h.logger.Error("a refused configuration could not be recorded", "error", err)
	}
}

func actorOf(ctx context.Context) string {
	if c, ok := nexus.CallerFrom(ctx); ok {
		return c.Name
	}
	return actorHost
}

// unrecorded is the diagnostic of a change that could not be recorded.
func unrecorded(err error) config.Diagnostic {
	return config.Diagnostic{
		Severity: config.SeverityError, Summary: "The change cannot be recorded",
		Detail: sentence(err.Error()) + " Nothing was changed; " + sdk.FromError(err).Remedy + ".",
	}
}

// AuditVerification says what to verify without a host.
type AuditVerification struct {
	// DataDir of the host whose log is verified; nothing in it is changed.
	DataDir string
	// Export is a file of JSON Lines to verify instead; Key is required then.
	Export string
	// Key is the public key, or a file with it; empty: the one in DataDir.
	Key string
	// Checkpoints are files with signed checkpoints.
	Checkpoints []string
}

// VerifyAudit verifies a log without a host.
func VerifyAudit(ctx context.Context, v AuditVerification) (*apiv1.VerifyResponse, error) {
	begin := time.Now()
	notes, err := ReadCheckpoints(v.Checkpoints)
	if err != nil {
		return nil, err
	}
	text := []byte(v.Key)
	if v.Key == "" {
		v.Key = dataDir(v.DataDir).join("state", audit.PublicKeyFile)
	}
	if content, err := os.ReadFile(v.Key); err == nil {
		text = content
	} else if len(text) == 0 {
		return nil, err
	}
	key, err := audit.ParseKey(text)
	if err != nil {
		return nil, err
	}
	var report *audit.Report
	if v.Export != "" {
		f, err := os.Open(v.Export)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		report, err = verifyFile(f, notes, key)
		if err != nil {
			return nil, err
		}
		return api.AuditReport(report, time.Since(begin)), nil
	}
	db, err := store.OpenReadOnly(ctx, dataDir(v.DataDir).database())
	if err != nil {
		return nil, err
	}
	report, err = audit.Trail{Store: db.Audit(), Dir: dataDir(v.DataDir).archives()}.Verify(ctx, key, notes...)
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	return api.AuditReport(report, time.Since(begin)), nil
}
