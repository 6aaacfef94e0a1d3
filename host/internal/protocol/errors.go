package protocol

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Reasons of failures, stable for machines.
const (
	ReasonUnknown     = "PROTOCOL_UNKNOWN"
	ReasonInactive    = "PROTOCOL_INACTIVE"
	ReasonUnready     = "PROTOCOL_NOT_READY" // it is being taken into service
	ReasonBusy        = "PROTOCOL_BUSY"
	ReasonDeadline    = "PROTOCOL_DEADLINE"
	ReasonDeactivated = "PROTOCOL_DEACTIVATED" // during the call
	ReasonPayload     = "PROTOCOL_PAYLOAD"
	ReasonResult      = "PROTOCOL_RESULT"
	ReasonTestFailed  = "PROTOCOL_TEST_FAILED"
	ReasonMode        = "PROTOCOL_MODE" // it is in another mode than it was asked to be
	ReasonInUse       = "PROTOCOL_IN_USE"
	ReasonCycle       = "PROTOCOL_CYCLE"
	ReasonDepth       = "PROTOCOL_DEPTH"
	ReasonCallEnded   = "PROTOCOL_CALL_ENDED"
	ReasonNotListed   = "PROTOCOL_CALL_NOT_LISTED"
	ReasonOperation   = "PROTOCOL_OPERATION"
	ReasonStopped     = "PROTOCOL_HOST_STOPS"
)

func unknown(name string) *sdk.Error {
	return sdk.Errorf(codes.NotFound, ReasonUnknown, "there is no protocol %q", clip(name)).
		WithRemedy("`sop protocol list` names the configured ones")
}

func inactive(name string) *sdk.Error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonInactive, "protocol %s is not in service", name).
		WithRemedy("`sop protocol activate %s` takes it into service", name)
}

func deactivated(name string) *sdk.Error {
	e := sdk.Errorf(codes.Unavailable, ReasonDeactivated, "protocol %s was taken out of service, and the call did not end in time", name).
		WithRemedy("find out what became of it before you call again")
	e.Retryable = true
	return e
}

func late(name, operation string, after time.Duration) *sdk.Error {
	e := sdk.Errorf(codes.DeadlineExceeded, ReasonDeadline, "protocol %s did not answer %s within %s", name, clip(operation), after).
		WithRemedy("raise the protocol's timeout if the work needs longer; `sop protocol list` says how it stands")
	e.Retryable = true
	return e
}

// clip makes text from outside fit for a message.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most]
	}
	return s
}

func stopped() *sdk.Error {
	return sdk.Errorf(codes.Unavailable, ReasonStopped, "the host stops").WithRemedy("call again when it has started")
}

// unready says that a peer is wanted in service and is not, and why.
func unready(name string, cause *sdk.Error) *sdk.Error {
	e := sdk.Errorf(codes.Unavailable, ReasonUnready, "protocol %s is not in service yet: %w", name, cause)
	e.Remedy, e.Retryable = cause.Remedy, cause.Retryable
	return e
}

// needs says that a peer lacks something that it cannot be without.
func needs(name, what string, cause error) *sdk.Error {
	c := sdk.FromError(cause)
	e := sdk.Errorf(c.Code, ReasonUnready, "protocol %s needs %s: %w", name, what, c).WithRemedy("%s", c.Remedy)
	e.Retryable = c.Retryable
	return e
}

// notActivated says that the plugin would not change its mode, and what the plugin says
// of it.
func notActivated(name string, mode Mode, cause error) *sdk.Error {
	e := *sdk.FromError(cause)
	e.Message = "protocol " + name + " could not be made " + string(mode) + ": " + e.Message
	return &e
}

func wrongMode(name string, want Mode, got pluginv1.Mode) *sdk.Error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonMode, "protocol %s was to be %s and says that it is %s", name, want, modeName(got)).
		WithRemedy("configure the mode that it can be in, or see the log of its plugin")
}

func inUse(name string, users []string) *sdk.Error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonInUse, "protocol %s is needed by %s", name, strings.Join(users, ", ")).
		WithRemedy("deactivate those first")
}

// cutDot splits "scp.recall".
func cutDot(call string) (protocol, operation string, found bool) { return strings.Cut(call, ".") }
