package component

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sop-host/sop/host/internal/process"
)

// instance is one process of a component, started by this host or taken back
// from an earlier one.
type instance struct {
	spec      *Spec
	identity  string // of spec, as it was started
	number    int
	id        string // tells it from all others, in the environment of its processes
	handle    *process.Handle
	child     *os.Process // nil where an earlier host started it
	confined  confinement
	inForce   InForce
	startedAt time.Time
	adopted   time.Time     // when it was taken back; zero where this host started it
	exited    chan struct{} // closed when the process has exited; it is unreaped then
	reader    *reader
	notify    *notifySocket // nil without a notify probe
	record    *record
	release   func() // lets go of what it depends on

	leftOver    bool        // it ended and left others, which were ended; set by finish
	outOfMemory atomic.Bool // the kernel killed it for want of memory; set before exited is closed
}

// watch closes exited when the process has exited.
func (i *instance) watch() {
	defer close(i.exited)
	_ = i.handle.Wait() // an error says that the handle was closed, after the exit
	if i.confined.oomKills() > 0 {
		i.outOfMemory.Store(true)
	}
}

func (i *instance) ended() bool {
	select {
	case <-i.exited:
		return true
	default:
		return false
	}
}

// kill ends the process and all that it started, at once.
func (i *instance) kill() error {
	err := i.handle.SignalGroup(syscall.SIGKILL)
	if i.confined.group != nil {
		ctx, cancel := context.WithTimeout(context.Background(), killWait)
		defer cancel()
		return errors.Join(err, i.confined.group.Kill(ctx))
	}
	return err
}

// finish ends what the process has left, for which it waits no longer than
// grace, reaps it, reads what it printed last, and leaves nothing of it behind.
// The process must have exited.
func (i *instance) finish(grace time.Duration) (process.Exit, error) {
	left := i.awaitRest(grace)
	var failed []error
	failed = append(failed, i.handle.SignalGroup(syscall.SIGKILL))
	if i.child != nil { // unreaped: the number of its group is still its own
		failed = append(failed, process.SignalGroup(i.child.Pid, syscall.SIGKILL))
	}
	if left {
		i.leftOver = i.confined.group != nil
		failed = append(failed, i.confined.kill())
	}
	var exit process.Exit
	if i.child != nil {
		state, err := i.child.Wait()
		if failed = append(failed, err); err == nil {
			exit = process.ExitOf(state)
		}
	}
	if i.confined.group == nil {
		n, err := process.EndAll(func(s process.Seen) bool { return s.HasEnv(instanceVariable + "=" + i.id) })
		i.leftOver = n > 0
		failed = append(failed, err)
	}
	i.reader.finish()
	i.notify.close()
	failed = append(failed, i.confined.remove(), i.handle.Close(), i.record.remove())
	return exit, errors.Join(failed...)
}

// restLook is how often it is looked whether what a process started has ended.
const restLook = 5 * time.Millisecond

// awaitRest waits until what the process started has ended too, for at most
// grace, and says whether something is left.
func (i *instance) awaitRest(grace time.Duration) (left bool) {
	if i.confined.group == nil {
		return true // it cannot be told
	}
	deadline := time.Now().Add(grace)
	for {
		empty, err := i.confined.group.Empty()
		if err != nil || empty {
			return err != nil
		}
		if !time.Now().Before(deadline) {
			return true
		}
		time.Sleep(restLook)
	}
}
