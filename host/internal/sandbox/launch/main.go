package launch

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors that a stage finds open beside 0, 1 and 2.
const (
	controlFD = 3 // launcher, init: the socket
	planFD    = 4 // init, exec: the plan
	readyFD   = 5 // exec: readable when the root has been built
	notifyFD  = 6 // exec: a socket for the listener of denied calls
	passedFD  = 7 // exec: the first of the passed descriptors
	treesFD   = 5 // init: the first of the detached mounts; the passed descriptors follow them

	programFD = 5 // plugin: the verified program
	reportFD  = 6 // plugin: a pipe for Messages
)

// Main runs the stage that args name and returns the exit code of the process.
// It must be called from the main goroutine, which it locks to its thread: what
// dies with a parent dies with that thread, and what a thread gives up it gives
// up for itself alone.
func Main(args []string) int {
	runtime.LockOSThread()
	stage := ""
	if len(args) == 1 {
		stage = args[0]
	}
	switch stage {
	case "launch":
		return runLauncher(Control{controlFD})
	case "init":
		return runInit(Control{controlFD})
	case "exec":
		return runExec()
	case "plugin":
		return runPlugin()
	}
	fmt.Fprintln(os.Stderr, "sop-sandbox is started by sop; see sop sandbox run --help")
	return 2
}

// selfPath is the program of the running process, whatever has become of its
// name.
const selfPath = "/proc/self/exe"

// SealedPlan returns a descriptor from which a stage reads the plan.
func SealedPlan(plan *Plan) (*os.File, error) {
	data, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "plan")
	if _, err = file.Write(data); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// readPlan reads what SealedPlan has written, and leaves it open for the next
// stage.
func readPlan() (*Plan, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(planFD, &stat); err != nil {
		return nil, err
	}
	data := make([]byte, stat.Size)
	n, err := unix.Pread(planFD, data, 0)
	if err != nil {
		return nil, err
	}
	plan := new(Plan)
	return plan, json.Unmarshal(data[:n], plan)
}

func now() int64 { return time.Now().UnixMicro() }
