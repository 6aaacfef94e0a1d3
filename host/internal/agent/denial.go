package agent

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Why a key, or whoever it belongs to, was refused.
const (
	ReasonMalformed = "KEY_MALFORMED"
	ReasonUnknown   = "KEY_UNKNOWN"
	ReasonRotated   = "KEY_ROTATED"
	ReasonRevoked   = "AGENT_REVOKED"
	ReasonExpired   = "AGENT_EXPIRED"
)

func denial(reason, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.Unauthenticated, reason, format, args...)
}

func unknown() *sdk.Error {
	return denial(ReasonUnknown, "there is no such key").WithRemedy("give the key that was enrolled for you, on this host")
}

func revoked(name string) *sdk.Error {
	return denial(ReasonRevoked, "agent %s was revoked", name).WithRemedy("ask who runs the host to enroll another agent")
}

func expired(name string, at time.Time) *sdk.Error {
	return denial(ReasonExpired, "agent %s expired at %s", name, at.Format(time.RFC3339)).
		WithRemedy("ask who runs the host to renew it: sop agent rotate %s --ttl", name)
}

func invalid(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "AGENT_REQUEST", format, args...).WithField(field, "")
}
