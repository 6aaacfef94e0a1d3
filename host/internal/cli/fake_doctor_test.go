package cli

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/doctor"
	"github.com/sop-host/sop/host/internal/startup"
)

// doctor finds what the scenario wants, and what the host says of itself.
func (e engineScenario) doctor(ctx context.Context, x startup.Examination) *doctor.Report {
	host := doctor.Fine("no host runs on %s", "/var/sop")
	if s, running, err := x.Host(ctx); running && err == nil {
		host = doctor.Fine("version %s runs, pid %d", s.GetVersion(), s.GetPid())
	}
	checks := []doctor.Check{
		{Name: "host", Limit: time.Minute, Examine: func(context.Context) []doctor.Finding { return []doctor.Finding{host} }},
		{Name: "permissions", Limit: time.Minute, Examine: func(context.Context) []doctor.Finding {
			out := []doctor.Finding{doctor.Fine("the secrets are their owner's alone")}
			switch e {
			case "broken":
				return append(out, doctor.Fail("chmod 0600 token.key", "others have access to to\x1b[31mken.key"), doctor.Warn("look at it", "it is odd"))
			case "warning":
				return append(out, doctor.Warn("look at it", "it is odd"))
			}
			return out
		}},
	}
	report := doctor.Run(ctx, checks)
	for i := range report.Checks {
		report.Checks[i].Took = time.Duration(i+1) * time.Millisecond
	}
	return report
}

// selfTest passes, or fails as the scenario wants.
func (e engineScenario) selfTest(_ context.Context, opt startup.SelfTesting) *startup.SelfTestReport {
	r := &startup.SelfTestReport{Passed: true, Took: 1234567890, Steps: []startup.SelfTestStep{
		{Name: "tokens", State: startup.StepPassed, Detail: "issued and used", Took: 1234567},
		{Name: "sandbox", State: startup.StepSkipped, Detail: "this machine allows none"},
	}}
	if e == "broken" {
		r.Passed = false
		r.Steps[0] = startup.SelfTestStep{Name: "tokens", State: startup.StepFailed, Detail: "refu\x1b[31msed\nonce more", Remedy: "mend it", Took: time.Second}
	}
	for _, s := range r.Steps {
		if opt.OnStep != nil {
			opt.OnStep(s)
		}
	}
	return r
}
