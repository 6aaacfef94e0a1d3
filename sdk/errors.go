package sdk

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Error is the one error vocabulary on both sides of the plugin boundary: a
// code and a reason for machines, a sentence and a remedy for people, and a
// cause for the log of the process in which it arose. It crosses the boundary
// without its cause.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is stable UPPER_SNAKE_CASE; empty where the code says it all.
	Reason string
	// Message says what happened, in one sentence.
	Message string
	// Remedy says what to do; may be empty.
	Remedy string
	// Retryable says that the same call may succeed later.
	Retryable bool
	// Metadata holds further facts; nil is fine.
	Metadata map[string]string
	// Cause stays in this process; may be nil.
	Cause error
}

// Errorf makes an Error whose message is formatted; a %w verb sets the cause.
func Errorf(code codes.Code, reason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Reason: reason, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// WithRemedy sets the remedy and returns e.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus makes e the status that gRPC sends, with a [pluginv1.Error] among
// its details.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code, e.Message)
	withDetails, err := st.WithDetails(&pluginv1.Error{
		Reason:    e.Reason,
		Remedy:    e.Remedy,
		Retryable: e.Retryable,
		Metadata:  e.Metadata,
	})
	if err != nil { // only for code OK, which is no error
		return st
	}
	return withDetails
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
	for _, d := range st.Details() {
		if pe, ok := d.(interface { // of a plugin, or of the host's API
			GetReason() string
			GetRemedy() string
			GetRetryable() bool
			GetMetadata() map[string]string
		}); ok {
			e.Reason, e.Remedy, e.Retryable, e.Metadata = pe.GetReason(), pe.GetRemedy(), pe.GetRetryable(), pe.GetMetadata()
			return e
		}
	}
	e.Retryable = st.Code() == codes.Unavailable || st.Code() == codes.DeadlineExceeded
	return e
}
