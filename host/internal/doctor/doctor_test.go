package doctor

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What checks find is told in their order, and the worst of it is the state.
func TestRun(t *testing.T) {
	second := make(chan struct{})
	report := Run(t.Context(), []Check{
		{Name: "one", Limit: time.Minute, Examine: func(context.Context) []Finding {
			<-second // they run side by side
			return []Finding{Fine("it is %d", 1), Warn("do", "look")}
		}},
		{Name: "two", Limit: time.Minute, Examine: func(context.Context) []Finding {
			close(second)
			return []Finding{Fine("fine")}
		}},
	})
	for i := range report.Checks {
		report.Checks[i].Took = 0
	}
	want := &Report{State: Warning, Checks: []Result{
		{Check: "one", State: Warning, Findings: []Finding{{OK, "it is 1", ""}, {Warning, "look", "do"}}},
		{Check: "two", State: OK, Findings: []Finding{{OK, "fine", ""}}},
	}}
	if d := cmp.Diff(want, report); d != "" {
		t.Error(d)
	}
	if report.Count(OK) != 2 || report.Count(Warning) != 1 || report.Count(Failed) != 0 {
		t.Errorf("%d, %d and %d", report.Count(OK), report.Count(Warning), report.Count(Failed))
	}
}

// A check that takes too long is told as late, whether it heeds its context or
// not, and holds nobody up for longer.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		begin := time.Now()
		report := Run(t.Context(), []Check{
			{Name: "heeds", Limit: time.Second, Late: Warn("allow more", "slow"), Examine: func(ctx context.Context) []Finding {
				<-ctx.Done()
				return []Finding{FromError(ctx.Err(), "")}
			}},
			{Name: "hangs", Limit: 3 * time.Second, Examine: func(context.Context) []Finding {
				<-hang
				return nil
			}},
		})
		if took := time.Since(begin); took != 3*time.Second+settle {
			t.Errorf("it took %s", took)
		}
		if got := report.Checks[0].Findings; len(got) != 1 || got[0] != Warn("allow more", "slow") {
			t.Errorf("%+v", got)
		}
		if c := report.Checks[1]; c.State != Failed || len(c.Findings) != 1 || c.Findings[0].Message != "no answer within 3s" || c.Findings[0].Remedy == "" {
			t.Errorf("%+v", c)
		}
		close(hang)
	})
}

// Whoever interrupts is not told that the machine is slow.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	report := Run(ctx, []Check{{Name: "one", Limit: time.Minute, Examine: func(ctx context.Context) []Finding {
		cancel()
		<-ctx.Done()
		return nil
	}}})
	if got := report.Checks[0].Findings; report.State == Failed || len(got) > 1 {
		t.Errorf("%s: %+v", report.State, got)
	}
}

func TestFromError(t *testing.T) {
	own := sdk.Errorf(codes.DataLoss, "STORE_CORRUPT", "damaged").WithRemedy("restore it")
	for _, tt := range []struct {
		err  error
		want Finding
	}{
		{own, Finding{Failed, "damaged", "restore it"}},
		{fmt.Errorf("plain"), Finding{Failed, "plain", "otherwise"}},
	} {
		if got := FromError(tt.err, "otherwise"); got != tt.want {
			t.Errorf("%+v, want %+v", got, tt.want)
		}
	}
}
