package launch

import (
	"os"
	"testing"
)

// What runs as long as a command does must not allocate: nothing collects it.
func TestWatchesDoNotAllocate(t *testing.T) {
	var w memoryWatch
	if w.resident() == 0 {
		t.Error("no process has any memory")
	}
	if n := testing.AllocsPerRun(10, func() { w.resident() }); n > 0 {
		t.Errorf("the watch of memory allocates %v times", n)
	}
	d := deniedCalls{listener: -1}
	call := notification{pid: uint32(os.Getpid()), nr: 1}
	if n := testing.AllocsPerRun(10, func() { d.add(&call); d.answer(0) }); n > 0 {
		t.Errorf("a denied call allocates %v times", n)
	}
	var f forwarder
	poll := f.wants(nil)
	if n := testing.AllocsPerRun(10, func() { f.carry(f.wants(poll[:0])) }); n > 0 {
		t.Errorf("the forwarder allocates %v times", n)
	}
}

func TestDeniedCallsAreBounded(t *testing.T) {
	var d deniedCalls
	for i := range int32(2 * maxDenied) {
		d.add(&notification{pid: uint32(os.Getpid()), nr: 10_000 + i})
	}
	if got := d.list(); len(got) != maxDenied+1 || got[maxDenied].Count != maxDenied {
		t.Errorf("%d entries, the last %+v", len(got), got[len(got)-1])
	}
}
