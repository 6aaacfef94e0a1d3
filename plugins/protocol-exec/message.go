package main

import (
	"encoding/json"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// answer is one message from the program. Exactly one of what follows the id is
// meant: the result, an error, a piece of the result, or its end.
type answer struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *failure        `json:"error"`
	Chunk  json.RawMessage `json:"chunk"`
	End    bool            `json:"end"`
}

// id is what the request was called; the program may give it as text or as a
// number.
func (a *answer) id() string { return strings.Trim(string(a.ID), `"`) }

// failure is what a program says went wrong. Code is the name of a gRPC code such
// as "NOT_FOUND", or a number of JSON-RPC.
type failure struct {
	Code      json.RawMessage `json:"code"`
	Reason    string          `json:"reason"`
	Message   string          `json:"message"`
	Remedy    string          `json:"remedy"`
	Retryable bool            `json:"retryable"`
}

func (f *failure) error(operation string) *sdk.Error {
	var code codes.Code
	switch strings.Trim(string(f.Code), `"`) {
	case "-32601":
		code = codes.Unimplemented
	case "-32600", "-32602", "-32700":
		code = codes.InvalidArgument
	default:
		if err := code.UnmarshalJSON(f.Code); err != nil || code == codes.OK || code > codes.Unauthenticated {
			code = codes.Unknown
		}
	}
	message := f.Message
	if message == "" {
		message = operation + " failed, and the program does not say why"
	}
	e := sdk.Errorf(code, f.Reason, "%s", message)
	if e.Reason == "" {
		e.Reason = "PEER_FAILED"
	}
	e.Remedy, e.Retryable = f.Remedy, f.Retryable
	return e
}

type sopRequest struct {
	ID        string            `json:"id"`
	Operation string            `json:"operation"`
	Payload   json.RawMessage   `json:"payload"`
	Context   map[string]string `json:"context,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Stream    bool              `json:"stream,omitempty"`
}

type rpcRequest struct {
	Version string          `json:"jsonrpc"`
	ID      string          `json:"id,omitempty"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params,omitempty"`
}

// encode writes a request in a dialect.
func encode(dialect string, r *sopRequest) ([]byte, error) {
	if dialect == dialectRPC {
		params := r.Payload
		if string(params) == "null" {
			params = nil
		}
		return json.Marshal(rpcRequest{Version: "2.0", ID: r.ID, Method: r.Operation, Params: params})
	}
	return json.Marshal(r)
}

// encodeCancel says that nobody waits for a request any more.
func encodeCancel(dialect, id string) ([]byte, error) {
	if dialect == dialectRPC {
		params, err := json.Marshal(map[string]string{"id": id})
		if err != nil {
			return nil, err
		}
		return json.Marshal(rpcRequest{Version: "2.0", Method: "$/cancelRequest", Params: params})
	}
	return json.Marshal(map[string]string{"cancel": id})
}
