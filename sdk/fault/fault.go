// Package fault is the one error vocabulary of the host, of its plugins and of who
// asks them. Plugin authors meet it as [sdk.Error]; it stands by itself for
// programs that speak to the host and serve nothing.
//
// [sdk.Error]: https://pkg.go.dev/github.com/sop-host/sop/sdk#Error
package fault

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
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

// Domain stands in the ErrorInfo of every error of the host and of its plugins.
const Domain = "sop"

// GRPCStatus makes e the status that gRPC sends, with what [Error.Details] says in
// its details.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code, e.Message)
	for _, d := range e.Details() {
		// There is no form for text that is no UTF-8, nor for details of what is no error.
		if more, err := st.WithDetails(protoadapt.MessageV1Of(d)); err == nil {
			st = more
		}
	}
	return st
}

// Details are the messages of google.rpc that say what e says beside its code and
// message: ErrorInfo always, Help where there is a remedy, BadRequest where fields
// are wrong, and RetryInfo, perhaps without a delay, exactly if the same call may
// succeed later.
func (e *Error) Details() []proto.Message {
	out := []proto.Message{&errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain, Metadata: e.Metadata}}
	if e.Remedy != "" {
		out = append(out, &errdetails.Help{Links: []*errdetails.Help_Link{{Description: e.Remedy}}})
	}
	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.Field, Description: f.Message})
		}
		out = append(out, bad)
	}
	if e.Retryable {
		retry := &errdetails.RetryInfo{}
		if e.RetryAfter > 0 {
			retry.RetryDelay = durationpb.New(e.RetryAfter)
		}
		out = append(out, retry)
	}
	return out
}

// Take fills in what one detail of an answer says; what it does not know says
// nothing. ErrorInfo of this domain comes before RetryInfo.
func (e *Error) Take(detail any) {
	switch d := detail.(type) {
	case *errdetails.ErrorInfo:
		e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
		if d.GetDomain() == Domain {
			e.Retryable = false // unless RetryInfo says so
		}
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
