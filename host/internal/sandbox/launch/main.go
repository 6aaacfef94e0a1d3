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
	controlFD = 3 // seed: its socket; in its copies that of the run
	usernsFD  = 4 // seed: see keepIDNamespace
	planFD    = 4 // plugin: the plan
	programFD = 5 // plugin: the verified program
	reportFD  = 6 // plugin: a pipe for Messages
)

// Main runs the stage that args name and returns the exit code of the process.
// It must be called from the main goroutine.
func Main(args []string) int {
	stage := ""
	if len(args) == 1 {
		stage = args[0]
	}
	switch stage {
	case "seed":
		return runSeed()
	case "plugin":
		runtime.LockOSThread() // what a thread gives up it gives up for itself alone
		return runPlugin()
	}
	fmt.Fprintln(os.Stderr, "sop-sandbox is started by sop; see sop sandbox run --help")
	return 2
}

// SealedPlan returns a descriptor from which the plugin stage reads the plan.
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

// readPlan reads what SealedPlan has written.
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
