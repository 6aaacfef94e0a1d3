package api

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/sdk"
)

// wireError translates an error of the host for the wire. Connect's and gRPC's
// codes are the same numbers. What the error says beside its code and message
// is in its details.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return complete(already)
	}
	e := reasoned(err)
	out := connect.NewError(connect.Code(e.Code), errors.New(e.Message))
	for _, d := range e.Details() {
		if detail, err := connect.NewErrorDetail(d); err == nil { // only text that is no UTF-8 has no form
			out.AddDetail(detail)
		}
	}
	return out
}

// reasoned returns err in the vocabulary of errors, with a reason where the libraries
// or the system give none.
func reasoned(err error) *sdk.Error {
	e := sdk.FromError(err)
	switch {
	case e.Reason != "":
		return e
	case e.Code == codes.DeadlineExceeded:
		return sdk.Errorf(e.Code, "CALL_TIMEOUT", "the call has taken longer than it may: %w", err).WithRemedy("give it a longer timeout, or ask for less").RetryIn(0)
	case e.Code == codes.Canceled:
		return sdk.Errorf(e.Code, "CALL_CANCELED", "the call was given up by its caller, or the host ends: %w", err).WithRemedy("call again")
	case errors.Is(err, syscall.ENAMETOOLONG):
		return sdk.Errorf(codes.InvalidArgument, "NAME_TOO_LONG", "a path in the request is longer than the file system takes").
			WithRemedy("give no part of a path more than 255 bytes")
	}
	return e
}

// failed is the error of a method as its caller is told it. What no part of the host
// has put into words may speak of the host's files: a system agent is told it as it
// is, anybody else where it stands.
func (d *door) failed(ctx context.Context, err error) error {
	var already *connect.Error
	if err == nil || errors.As(err, &already) {
		return wireError(err)
	}
	e := reasoned(err)
	if e.Reason == "" && ctx.Err() != nil { // it may say so in the words of a library
		e = reasoned(ctx.Err())
	}
	if e.Reason != "" {
		return wireError(e)
	}
	out := *e
	if e.Code != codes.Unknown && e.Code != codes.Internal {
		out.Reason = strings.ToUpper(connect.Code(e.Code).String()) // a plugin has said no more
		return wireError(&out)
	}
	id := audit.OriginFrom(ctx).RequestID
	d.nexus.Logger.Error("a call has failed", "request_id", id, "error", err)
	out.Reason, out.Remedy = "INTERNAL", "see what the host's log says of the request "+id
	if c, _ := nexus.CallerFrom(ctx); !c.System() {
		out.Message = "the host could not do it"
	}
	return wireError(&out)
}
