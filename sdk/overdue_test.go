package sdk

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// A plugin does not serve while a call goes on for long after it was cancelled.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &overdue{limit: 30 * time.Second}
		health := func() error {
			answer := func(context.Context, any) (any, error) { return nil, nil }
			_, err := o.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: grpc_health_v1.Health_Check_FullMethodName}, answer)
			return err
		}
		letGo, done := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(done)
			_, _ = o.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/work"}, func(context.Context, any) (any, error) {
				<-letGo
				return nil, nil
			})
		}()
		expect := func(when string, serves bool) {
			t.Helper()
			synctest.Wait()
			if err := health(); (err == nil) != serves || err != nil && FromError(err).Reason != "CALL_STUCK" {
				t.Errorf("%s: %v", when, err)
			}
		}
		time.Sleep(time.Hour)
		expect("a long call", true)
		cancel()
		expect("one that was just cancelled", true)
		time.Sleep(29 * time.Second)
		expect("one that has time yet", true)
		time.Sleep(time.Second)
		expect("one that goes on", false)
		close(letGo)
		<-done
		expect("one that has ended", true)
	})
}
