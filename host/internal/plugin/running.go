package plugin

import (
	"os"
	"syscall"

	"github.com/sop-host/sop/host/internal/process"
)

// running is a started plugin, on the host itself or in a view. Between await and
// reap it is dead, and what it has left behind may not be.
type running interface {
	// pid is 0 where it is nobody's business.
	pid() int
	// await blocks until it has exited, and says whether a signal ended it.
	await() (killed bool, err error)
	// reap says how it ended. It is called once, after await.
	reap() (cause string, err error)
	// signal reaches everything that holds together with it. It is not called
	// after reap.
	signal(sig syscall.Signal) error
}

// hostProcess is a child of this process.
type hostProcess struct{ *os.Process }

func (p hostProcess) pid() int { return p.Pid }

func (p hostProcess) await() (bool, error) { return process.AwaitExit(p.Pid) }

func (p hostProcess) reap() (string, error) {
	state, err := p.Wait()
	if err != nil {
		return "exited", err
	}
	return state.String(), nil
}

func (p hostProcess) signal(sig syscall.Signal) error { return process.SignalGroup(p.Pid, sig) }
