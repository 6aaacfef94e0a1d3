// Package apierr reads the errors that the host's API sends.
package apierr

import (
	"maps"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk/fault"
)

// RequestID is the header, of requests and answers, with what names a request in the
// host's records.
const RequestID = "X-Request-Id"

// Decode translates back what a client received. The metadata has the request_id, too.
func Decode(wire *connect.Error) *fault.Error {
	e := &fault.Error{Code: codes.Code(wire.Code()), Message: wire.Message(), Cause: wire}
	for _, detail := range wire.Details() {
		value, err := detail.Value()
		if err != nil {
			continue // of a later host
		}
		e.Take(value)
	}
	if id := wire.Meta().Get(RequestID); id != "" {
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		e.Metadata["request_id"] = id
	}
	return e
}
