package sdk

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/fault"
)

// Error is the one error vocabulary on both sides of the plugin boundary: a
// code and a reason for machines, a sentence and a remedy for people, and a
// cause for the log of the process in which it arose. It crosses the boundary
// without its cause.
type Error = fault.Error

// FieldError is what is wrong with one field of a request.
type FieldError = fault.FieldError

// Errorf makes an Error whose message is formatted; a %w verb sets the cause.
func Errorf(code codes.Code, reason, format string, args ...any) *Error {
	return fault.Errorf(code, reason, format, args...)
}

// FromError returns err as an *Error: itself if it is one, or what a gRPC
// status or a context error says. It returns nil for nil.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: codes.DeadlineExceeded, Message: err.Error(), Retryable: true, Cause: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: codes.Canceled, Message: err.Error(), Cause: err}
	}
	st := status.Convert(err)
	e = &Error{Code: st.Code(), Message: st.Message(), Cause: err}
	e.Retryable = st.Code() == codes.Unavailable || st.Code() == codes.DeadlineExceeded
	for _, d := range st.Details() {
		take(e, d)
	}
	return e
}

// take fills in what one detail of a status says.
func take(e *Error, detail any) {
	if own, ok := detail.(*pluginv1.Error); ok {
		e.Reason, e.Remedy, e.Retryable, e.Metadata = own.GetReason(), own.GetRemedy(), own.GetRetryable(), own.GetMetadata()
		return
	}
	e.Take(detail)
}
