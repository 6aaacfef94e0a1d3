package startup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

func (d dataDir) components() string    { return d.join("state", "components") }
func (d dataDir) componentLogs() string { return d.join("logs", "components") }

// openComponents makes the supervisor; it starts nothing.
func (h *host) openComponents(undo *closers) (err error) {
	h.components, err = component.New(component.Options{
		Dir: h.dir.components(), LogDir: h.dir.componentLogs(), Logger: h.logger.Named("component"), OnEvent: h.onComponentEvent,
		Plugins: h.pool, Halted: h.emergency.check, SandboxLauncher: sandboxLauncher,
	})
	if err != nil {
		return err
	}
	undo.add(h.components.Close)
	return nil
}

// startComponents brings up those that are to be there always, beside the
// plugins; Settled says when. It takes back or ends what a killed host left.
func (h *host) startComponents(first *loaded) error {
	return h.components.Start(first.components)
}

// componentActions are the steps in the life of a component that are records.
var componentActions = map[component.Phase]struct {
	action  string
	outcome audit.Outcome
}{
	component.PhaseReady:   {"component.start", audit.Success},
	component.PhaseAdopted: {"component.adopt", audit.Success},
	component.PhaseFailed:  {"component.start", audit.Failure},
	component.PhaseExited:  {"component.exit", audit.Failure},
	component.PhaseUnready: {"component.unready", audit.Failure},
	component.PhaseStopped: {"component.stop", audit.Success},
}

// onComponentEvent puts a component's step on the timeline and, where it counts,
// on record.
func (h *host) onComponentEvent(e component.Event) {
	step := Step{Component: "component " + e.Name, Phase: string(e.Phase), Detail: e.Detail, Instance: e.Instance}
	for _, name := range e.After {
		if _, plugin := strings.CutPrefix(name, component.PluginPrefix); plugin {
			step.After = append(step.After, strings.Replace(name, ".", " ", 1))
		} else {
			step.After = append(step.After, "component "+name)
		}
	}
	if e.Phase == component.PhaseReady {
		step.Detail = fmt.Sprintf("instance %d, pid %d", e.Instance, e.PID)
	}
	if e.Err != nil {
		pe := sdk.FromError(e.Err)
		step.Detail, step.Remedy = pe.Message, pe.Remedy
	}
	h.steps.add(step)
	h.changed.Tell()
	h.maintainComponent(e)
	h.protocols.ComponentChanged(e.Name)
	a, listed := componentActions[e.Phase]
	if !listed {
		return
	}
	r := audit.Record{
		Actor: actorHost, Action: a.action, Resource: "component/" + e.Name, Outcome: a.outcome, Reason: e.Detail,
		Attributes: map[string]string{"instance": strconv.Itoa(e.Instance)},
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

// newComponentSpecs says how to run the enabled components.
func newComponentSpecs(cfg *config.Config) ([]*component.Spec, config.Diagnostics) {
	var specs []*component.Spec
	var diags config.Diagnostics
	for i := range cfg.Components {
		c := &cfg.Components[i]
		if !c.Enabled {
			continue
		}
		box, ds := componentSandbox(cfg, c)
		diags = append(diags, ds...)
		specs = append(specs, &component.Spec{
			Name: c.Name, Command: c.Command, Args: c.Args, Dir: c.Dir, Env: environmentOf(c.EnvPass, c.Env),
			Readiness: component.Readiness{
				Kind: component.ProbeKind(c.Readiness.Kind), Exec: c.Readiness.Exec, Target: c.Readiness.Target, Socket: c.Readiness.Socket, Service: c.Readiness.Service,
				Interval: c.Readiness.Interval, Timeout: c.Readiness.Timeout, Recheck: c.Readiness.Recheck,
			},
			Limits: cgroup.Limits(c.Limits), Sandbox: box, Survives: c.Survive == config.SurviveAdopt,
			Treatment: component.Treatment{
				DependsOn: c.DependsOn, RequiresReady: c.RequiresReady, StartTimeout: c.StartTimeout,
				RestartPolicy: component.RestartPolicy(c.RestartPolicy),
				Backoff: process.Backoff{
					BackoffMin: c.Restart.BackoffMin, BackoffMax: c.Restart.BackoffMax,
					BreakerFailures: c.Restart.BreakerFailures, BreakerWindow: c.Restart.BreakerWindow,
				},
				StopSignal: signalNamed(c.StopSignal), StopGrace: c.StopGrace, Required: c.Required, OnDemand: c.OnDemand, IdleStop: c.IdleStop,
			},
		})
	}
	return specs, diags
}

// signalNamed returns a signal that the configuration has checked.
func signalNamed(name string) syscall.Signal { return unix.SignalNum(name) }

// environmentOf is what a configuration lets a process see: values passed
// through, then values given.
func environmentOf(pass []string, set map[string]string) []string {
	var env []string
	for _, name := range pass {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		env = append(env, name+"="+set[name])
	}
	return env
}

// componentRefused places what kept components from being changed at their blocks.
func componentRefused(l *loaded, err error) config.Diagnostics {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	var diags config.Diagnostics
	for _, err := range errs {
		var pe *component.PrepareError
		if !errors.As(err, &pe) || l.config.Component(pe.Name) == nil {
			diags = append(diags, config.Diagnostic{Severity: config.SeverityError, Summary: "Components cannot be changed", Detail: err.Error()})
			continue
		}
		e := sdk.FromError(pe.Err)
		diags = append(diags, l.config.Problem(l.config.Component(pe.Name).Source, "Component "+pe.Name+" cannot be started",
			strings.TrimSpace(sentence(e.Message)+" "+sentence(e.Remedy))))
	}
	return diags
}

// componentReasons says what is not as it should be, and whether the host has
// failed for it.
func componentReasons(all []*apiv1.ComponentStatus) (reasons []string, failed bool) {
	for _, c := range all {
		switch component.State(c.GetState()) {
		case component.StateReady, component.StateIdle:
			continue
		case component.StateStarting, component.StateWaiting, component.StateQueued, component.StateStopping:
			if c.GetActivation() == "on_demand" {
				continue
			}
		case component.StateCompleted:
			if c.GetLastError() == nil {
				continue
			}
		case component.StateFailed:
			failed = failed || c.GetRequired()
		case component.StateUnready, component.StateBlocked, component.StateBackoff, component.StateStopped:
		}
		reason := fmt.Sprintf("component %s is %s", c.GetName(), c.GetState())
		if c.GetRequired() {
			reason += ", and required"
		}
		reasons = append(reasons, reason)
	}
	return reasons, failed
}

// settleComponents waits for the first start of the components.
func (h *host) settleComponents(ctx context.Context) {
	if err := h.components.Settled(ctx); err != nil {
		h.logger.Warn("components are still starting", "error", err)
	}
}
