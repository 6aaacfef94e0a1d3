package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		floor, live uint64
		want        int
	}{
		{96 * mb, 0, 2300},        // nothing was collected yet: 4 MB are taken for live
		{96 * mb, 16 * mb, 500},   // 16 and 80 more
		{96 * mb, 48 * mb, 100},   // the usual rule reaches the floor
		{96 * mb, 4000 * mb, 100}, // and more
		{96 * mb, 95 * mb, 100},
		{0, 16 * mb, 100},
		{1 << 62, 16 * mb, 1<<31 - 1},
	} {
		if got := percent(tt.floor, tt.live); got != tt.want {
			t.Errorf("floor %d MB, live %d MB: %d %%, want %d", tt.floor/mb, tt.live/mb, got, tt.want)
		}
	}
}

var sink []byte

// churn allocates a total of so many MB that nobody keeps, and returns how often
// that was collected.
func churn(megabytes int) uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range megabytes * 16 {
		sink = make([]byte, 64<<10)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

// With a floor a small heap is collected seldom, a large one as usual, and after
// stop all is as before.
func TestFloor(t *testing.T) {
	t.Setenv("GOGC", "")
	old := debug.SetGCPercent(100)
	defer debug.SetGCPercent(old)
	runtime.GC()
	without := churn(400)
	stop := Floor(Host)
	defer stop()
	runtime.GC()
	with := churn(400)
	if with == 0 || with > 10 || without < 4*with {
		t.Errorf("400 MB are collected %d times with a floor of %d MB, and %d times without", with, Host>>20, without)
	}
	large(t)
	stop()
	if got := inForce(); got != 100 {
		t.Errorf("after stop the percentage is %d", got)
	}
	runtime.GC()
	if again := churn(400); again < 4*with {
		t.Errorf("after stop 400 MB are collected %d times", again)
	}
}

// large has twice the floor live, and waits for the usual rule to hold.
func large(t *testing.T) {
	t.Helper()
	kept := make([][]byte, 0, 2*Host>>20)
	for range 2 * Host >> 20 {
		kept = append(kept, make([]byte, 1<<20))
	}
	for deadline := time.Now().Add(10 * time.Second); inForce() != usual; runtime.GC() { // the cleanup of one runs beside it
		if time.Now().After(deadline) {
			t.Errorf("with %d MB live the percentage is %d", len(kept), inForce())
			return
		}
	}
	runtime.KeepAlive(kept)
}

func inForce() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

// Whoever sets GOGC has decided.
func TestEnvironmentDecides(t *testing.T) {
	t.Setenv("GOGC", "150")
	old := debug.SetGCPercent(150)
	defer debug.SetGCPercent(old)
	defer Floor(Host)()
	if got := inForce(); got != 150 {
		t.Errorf("the percentage is %d", got)
	}
}
