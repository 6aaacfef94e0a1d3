// Package heap keeps the garbage collector of a small, busy process from running
// all the time.
//
// The collector runs when as much was allocated as is live (GOGC=100). A host has
// some 15 MB that are live, a plugin a few, and calls allocate hundreds of
// megabytes a second when many come at once: such a process would be collected
// fifty times a second, for a fifth of its CPU time. With a floor it is collected
// only when that much is in use, and from the size on at which the usual rule
// says more, by the usual rule.
package heap

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// Host is the floor of the resident host, in bytes.
	Host = 64 << 20
	// Plugin is the floor of a plugin, in bytes.
	Plugin = 32 << 20
	// usual is the percentage of the runtime.
	usual = 100
	// smallest is what the runtime multiplies with the percentage before it has
	// collected for the first time, in bytes.
	smallest = 4 << 20
)

// Floor has the collector run no earlier than when bytes are in use, until stop is
// called. Where the environment says GOGC, whoever runs the process has decided,
// and nothing is done. GOMEMLIMIT holds as ever. There is one floor at a time.
func Floor(bytes uint64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	f := &floor{bytes: bytes}
	f.before = debug.SetGCPercent(percent(bytes, 0))
	f.watch()
	return f.stop
}

// floor follows the live heap.
type floor struct {
	bytes  uint64
	before int

	mu      sync.Mutex
	stopped bool
}

// watch has the percentage set anew after each collection, which is when the
// object that it leaves behind has been found unreachable.
func (f *floor) watch() {
	runtime.AddCleanup(new(marker), func(f *floor) { f.collected() }, f)
}

// marker is not so small that it shares its place with others, which would keep it.
type marker [32]byte

func (f *floor) collected() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	want := percent(f.bytes, sample[0].Value.Uint64())
	if now := int(sample[1].Value.Uint64()); want < now || want > now+now/8 { // to set it stops the world for a moment
		debug.SetGCPercent(want)
	}
	f.watch()
}

// stop restores the rule that held before.
func (f *floor) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.stopped = true
		debug.SetGCPercent(f.before)
	}
}

// percent is how much may be allocated of what is live, in percent, before the
// floor, or the usual rule, is reached.
func percent(floor, live uint64) int {
	live = max(live, smallest)
	if floor <= live {
		return usual
	}
	return int(min(max((floor-live)*100/live, usual), math.MaxInt32))
}
