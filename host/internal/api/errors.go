package api

import (
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/sdk"
)

// ErrorDomain stands in the ErrorInfo of every error of the host.
const ErrorDomain = "sop"

// wireError translates an error of the host for the wire. Connect's and gRPC's
// codes are the same numbers. What the error says beside its code and message
// is in details of google.rpc: ErrorInfo always, Help where there is a remedy,
// BadRequest where fields are wrong, and RetryInfo, perhaps without a delay,
// exactly if the same call may succeed later.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return err
	}
	e := sdk.FromError(err)
	out := connect.NewError(connect.Code(e.Code), errors.New(e.Message))
	for _, d := range details(e) {
		if detail, err := connect.NewErrorDetail(d); err == nil { // only text that is no UTF-8 has no form
			out.AddDetail(detail)
		}
	}
	return out
}

func details(e *sdk.Error) []proto.Message {
	out := []proto.Message{&errdetails.ErrorInfo{Reason: e.Reason, Domain: ErrorDomain, Metadata: e.Metadata}}
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

// FromWire translates back what a client received.
func FromWire(wire *connect.Error) *sdk.Error {
	e := &sdk.Error{Code: codes.Code(wire.Code()), Message: wire.Message(), Cause: wire}
	for _, detail := range wire.Details() {
		value, err := detail.Value()
		if err != nil {
			continue // of a later host
		}
		switch d := value.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
		case *errdetails.Help:
			for _, link := range d.GetLinks() {
				e.Remedy = link.GetDescription()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e = e.WithField(v.GetField(), "%s", v.GetDescription())
			}
		case *errdetails.RetryInfo:
			e = e.RetryIn(d.GetRetryDelay().AsDuration())
		}
	}
	return e
}
