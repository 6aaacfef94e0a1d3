// Package apierr reads the errors that the host's API sends.
package apierr

import (
	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk/fault"
)

// Decode translates back what a client received.
func Decode(wire *connect.Error) *fault.Error {
	e := &fault.Error{Code: codes.Code(wire.Code()), Message: wire.Message(), Cause: wire}
	for _, detail := range wire.Details() {
		value, err := detail.Value()
		if err != nil {
			continue // of a later host
		}
		e.Take(value)
	}
	return e
}
