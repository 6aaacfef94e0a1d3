package component

import (
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Reasons of errors that concern components.
const (
	ReasonUnknown      = "COMPONENT_UNKNOWN"
	ReasonFailed       = "COMPONENT_FAILED"
	ReasonStopped      = "COMPONENT_STOPPED"
	ReasonNotReady     = "COMPONENT_NOT_READY"
	ReasonNeeded       = "COMPONENT_NEEDED"
	ReasonCommand      = "COMPONENT_COMMAND"
	ReasonLaunch       = "COMPONENT_LAUNCH"
	ReasonHost         = "COMPONENT_HOST" // the host could not do its part
	ReasonLimits       = "COMPONENT_LIMITS"
	ReasonSandbox      = "COMPONENT_SANDBOX"
	ReasonExited       = "COMPONENT_EXITED"
	ReasonOutOfMemory  = "COMPONENT_OUT_OF_MEMORY"
	ReasonStartTimeout = "COMPONENT_START_TIMEOUT"
	ReasonCrashLoop    = "COMPONENT_CRASH_LOOP"
	ReasonUnready      = "COMPONENT_UNREADY"
)

// permanent says whether starting again cannot help.
func permanent(e *sdk.Error) bool {
	switch e.Reason {
	case ReasonCommand, ReasonLimits, ReasonSandbox:
		return true
	}
	return false
}

// hostFailed says that the host could not do its part of a start.
func hostFailed(name string, cause error) *sdk.Error {
	return sdk.Errorf(codes.Unavailable, ReasonHost, "the host could not start component %s: %w", name, cause).
		WithRemedy("make room on the file system of the data directory, and let sop write there; it is tried again by itself")
}

func unknown(name string) *sdk.Error {
	return sdk.Errorf(codes.NotFound, ReasonUnknown, "there is no component %q", name).
		WithRemedy("`sop component list` names the configured components")
}
