package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

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
	// RetryAfter is how long to wait before the same call; 0: not known. It
	// means nothing unless Retryable is set.
	RetryAfter time.Duration
	// Fields are what is wrong with the request, each by itself; nil is fine.
	Fields []FieldError
	// Metadata holds further facts; nil is fine.
	Metadata map[string]string
	// Cause stays in this process; may be nil.
	Cause error
}

// FieldError is what is wrong with one field of a request.
type FieldError struct {
	// Field is its path, such as "spec.max_uses".
	Field string
	// Message says what is wrong with it.
	Message string
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

// WithField adds what is wrong with one field of the request and returns e. An
// empty format stands for the message of e.
func (e *Error) WithField(field, format string, args ...any) *Error {
	message := e.Message
	if format != "" {
		message = fmt.Sprintf(format, args...)
	}
	e.Fields = append(e.Fields, FieldError{Field: field, Message: message})
	return e
}

// RetryIn says that the same call may succeed after a time, and returns e. With
// a time of 0 it is not known when.
func (e *Error) RetryIn(after time.Duration) *Error {
	e.Retryable, e.RetryAfter = true, max(after, 0)
	return e
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus makes e the status that gRPC sends, with a [pluginv1.Error] among
// its details, and BadRequest and RetryInfo of google.rpc where there is
// something to say.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code, e.Message)
	details := []protoadapt.MessageV1{&pluginv1.Error{
		Reason:    e.Reason,
		Remedy:    e.Remedy,
		Retryable: e.Retryable,
		Metadata:  e.Metadata,
	}}
	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.Field, Description: f.Message})
		}
		details = append(details, bad)
	}
	if e.Retryable && e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	withDetails, err := st.WithDetails(details...)
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
	e.Retryable = st.Code() == codes.Unavailable || st.Code() == codes.DeadlineExceeded
	for _, d := range st.Details() {
		e.take(d)
	}
	return e
}

// take fills in what one detail of a status says.
func (e *Error) take(detail any) {
	switch d := detail.(type) {
	case *pluginv1.Error:
		e.Reason, e.Remedy, e.Retryable, e.Metadata = d.GetReason(), d.GetRemedy(), d.GetRetryable(), d.GetMetadata()
	case *errdetails.ErrorInfo:
		e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
	case *errdetails.Help:
		for _, link := range d.GetLinks() {
			e.Remedy = link.GetDescription()
		}
	case *errdetails.BadRequest:
		for _, v := range d.GetFieldViolations() {
			e.Fields = append(e.Fields, FieldError{Field: v.GetField(), Message: v.GetDescription()})
		}
	case *errdetails.RetryInfo:
		e.Retryable = true
		e.RetryAfter = max(d.GetRetryDelay().AsDuration(), 0)
	}
}
