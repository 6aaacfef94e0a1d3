package plugin

import (
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Reasons of failures, stable for machines. They stand in status and API.
const (
	ReasonNotLocked      = "PLUGIN_NOT_LOCKED"
	ReasonChecksum       = "PLUGIN_CHECKSUM_MISMATCH"
	ReasonNotExecutable  = "PLUGIN_NOT_EXECUTABLE"
	ReasonReplaced       = "PLUGIN_REPLACED"
	ReasonLaunch         = "PLUGIN_LAUNCH_FAILED"
	ReasonHandshake      = "PLUGIN_HANDSHAKE_FAILED"
	ReasonStartTimeout   = "PLUGIN_START_TIMEOUT"
	ReasonExitedEarly    = "PLUGIN_EXITED_EARLY"
	ReasonWrongKind      = "PLUGIN_WRONG_KIND"
	ReasonContract       = "PLUGIN_CONTRACT_VERSION"
	ReasonConfig         = "PLUGIN_CONFIG_REFUSED"
	ReasonUnhealthy      = "PLUGIN_UNHEALTHY"
	ReasonCrashed        = "PLUGIN_CRASHED"
	ReasonOutOfMemory    = "PLUGIN_OUT_OF_MEMORY"
	ReasonLimits         = "PLUGIN_LIMITS_REFUSED"
	ReasonSandbox        = "PLUGIN_SANDBOX_REFUSED"
	ReasonCrashLoop      = "PLUGIN_CRASH_LOOP"
	ReasonUnavailable    = "PLUGIN_UNAVAILABLE"
	ReasonUnknown        = "PLUGIN_UNKNOWN"
	ReasonDeadline       = "PLUGIN_DEADLINE"
	ReasonReplyTooLarge  = "PLUGIN_REPLY_TOO_LARGE"
	ReasonNotImplemented = "PLUGIN_NOT_IMPLEMENTED"
)

// permanent says whether starting the same binary with the same configuration
// again is pointless.
func permanent(err *sdk.Error) bool {
	switch err.Reason {
	case ReasonNotLocked, ReasonChecksum, ReasonNotExecutable, ReasonWrongKind, ReasonContract, ReasonConfig, ReasonLimits, ReasonSandbox:
		return true
	}
	return false
}

// failf makes an error about a plugin that could not be taken into service.
func failf(reason, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.FailedPrecondition, reason, format, args...)
}
