package api

import (
	"errors"

	"connectrpc.com/connect"

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
	e := sdk.FromError(err)
	out := connect.NewError(connect.Code(e.Code), errors.New(e.Message))
	for _, d := range e.Details() {
		if detail, err := connect.NewErrorDetail(d); err == nil { // only text that is no UTF-8 has no form
			out.AddDetail(detail)
		}
	}
	return out
}
