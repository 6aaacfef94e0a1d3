package cli

import (
	"fmt"

	"google.golang.org/grpc/codes"
)

// The exit codes; docs and help say the same.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPending     = 3
	exitDenied      = 4
	exitUnreachable = 5
	exitConflict    = 6
	exitTimeout     = 7
	// exitInterrupted is what shells expect after Ctrl-C.
	exitInterrupted = 130
)

// exitMeanings stand in the help.
var exitMeanings = []string{
	exitOK:          "ok",
	exitFailed:      "failed",
	exitUsage:       "wrong usage",
	exitPending:     "changes pending, degraded, or gaps over the threshold",
	exitDenied:      "denied",
	exitUnreachable: "host unreachable, or not able to do it now",
	exitConflict:    "conflict or lost lease",
	exitTimeout:     "timeout",
}

// exitCodes says how a code of the API ends the process; what is not listed
// has failed.
var exitCodes = map[codes.Code]int{
	codes.OK:               exitOK,
	codes.Canceled:         exitInterrupted,
	codes.InvalidArgument:  exitUsage,
	codes.OutOfRange:       exitUsage,
	codes.PermissionDenied: exitDenied,
	codes.Unauthenticated:  exitDenied,
	codes.Unavailable:      exitUnreachable,
	codes.Aborted:          exitConflict,
	codes.AlreadyExists:    exitConflict,
	codes.DeadlineExceeded: exitTimeout,
}

func exitCode(code codes.Code) int {
	if exit, listed := exitCodes[code]; listed {
		return exit
	}
	return exitFailed
}

// exitError ends the process with a code when all has been said already.
type exitError int

// Error implements error.
func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }
