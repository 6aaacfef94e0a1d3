package api

import (
	"errors"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// wireError translates an error of the host for the wire. Connect's and gRPC's
// codes are the same numbers.
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
	detail, detailErr := connect.NewErrorDetail(&apiv1.ErrorDetail{
		Reason: e.Reason, Remedy: e.Remedy, Retryable: e.Retryable, Metadata: e.Metadata,
	})
	if detailErr == nil {
		out.AddDetail(detail)
	}
	return out
}
