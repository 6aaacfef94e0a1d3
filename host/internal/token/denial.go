package token

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Why a token was refused. None of these costs a use.
const (
	ReasonMalformed      = "TOKEN_MALFORMED"
	ReasonOversize       = "TOKEN_OVERSIZE"
	ReasonUnknown        = "TOKEN_UNKNOWN"
	ReasonExpired        = "TOKEN_EXPIRED"
	ReasonRevoked        = "TOKEN_REVOKED"
	ReasonExhausted      = "TOKEN_EXHAUSTED"
	ReasonNotYet         = "TOKEN_NOT_YET"
	ReasonForeignTask    = "TOKEN_FOREIGN_TASK"
	ReasonWrongProtocol  = "TOKEN_WRONG_PROTOCOL"
	ReasonWrongOperation = "TOKEN_WRONG_OPERATION"
	ReasonWrongAgent     = "TOKEN_WRONG_AGENT"
	ReasonWrongPath      = "TOKEN_WRONG_PATH"
	ReasonWrongWorkspace = "TOKEN_WRONG_WORKSPACE"
	ReasonHolderRevoked  = "TOKEN_HOLDER_REVOKED"
	ReasonHolderExpired  = "TOKEN_HOLDER_EXPIRED"
	// ReasonDenied is what callers are told who may not know why.
	ReasonDenied = "TOKEN_DENIED"
	// ReasonGuessing answers a source that has guessed too often.
	ReasonGuessing = "TOKEN_GUESSING"
)

func denial(reason, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.PermissionDenied, reason, format, args...)
}

// refuse returns an error while the source has to wait, because it has guessed.
func (s *Service) refuse(source string) error {
	wait := s.guard.Wait(source, s.clock.now())
	if wait <= 0 {
		return nil
	}
	e := sdk.Errorf(codes.ResourceExhausted, ReasonGuessing, "too many tokens that are none came from here; wait %s", wait).
		WithRemedy("check where the token comes from before trying again")
	return e.RetryIn(wait)
}

type reasonsKey struct{}

// WithReasons returns a context in which the caller is told why a token is
// refused. In any other, every refusal looks the same.
func WithReasons(ctx context.Context) context.Context {
	return context.WithValue(ctx, reasonsKey{}, true)
}

func mayKnow(ctx context.Context) bool {
	may, _ := ctx.Value(reasonsKey{}).(bool)
	return may
}

// told returns what the caller in ctx may know of a refusal. Why it was stays
// in the cause, for the record.
func told(ctx context.Context, err error) error {
	if err == nil || mayKnow(ctx) {
		return err
	}
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != codes.PermissionDenied {
		return err
	}
	return &sdk.Error{
		Code: codes.PermissionDenied, Reason: ReasonDenied, Message: "the token does not permit this",
		Remedy: "ask who issued the token", Cause: err,
	}
}
