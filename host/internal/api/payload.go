package api

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sop-host/sop/host/internal/audit"
)

// withPayload ties records of a call to the message that it came with: they say
// the SHA-256 and the size of its deterministic protobuf encoding. A message may
// hold the secret of a token. Its hash gives nothing away, since a secret is 256
// random bits; no request has a secret that could be guessed, and a test knows
// those that there are.
func withPayload(ctx context.Context, message any) context.Context {
	m, ok := message.(proto.Message)
	if !ok {
		return ctx
	}
	return audit.WithPayload(ctx, audit.NewPayload(func() ([]byte, error) {
		return proto.MarshalOptions{Deterministic: true}.Marshal(m)
	}))
}

// received is a stream whose first message was read before its handler asks for
// it.
type received struct {
	connect.StreamingHandlerConn
	message proto.Message // nil: handed over, or there was none
	ended   bool          // by the caller, without a message
}

// receiveFirst reads the first message of a stream. It is bounded in size and
// time as that of any call is.
func receiveFirst(conn connect.StreamingHandlerConn) (*received, error) {
	method, ok := conn.Spec().Schema.(protoreflect.MethodDescriptor)
	if !ok {
		return &received{StreamingHandlerConn: conn}, nil // the door is closed to it
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return nil, err
	}
	first := kind.New().Interface()
	err = conn.Receive(first)
	if errors.Is(err, io.EOF) {
		return &received{StreamingHandlerConn: conn, ended: true}, nil
	}
	if err != nil {
		return nil, err
	}
	return &received{StreamingHandlerConn: conn, message: first}, nil
}

// Receive implements [connect.StreamingHandlerConn].
func (r *received) Receive(to any) error {
	if r.ended {
		return io.EOF
	}
	into, ok := to.(proto.Message)
	if r.message == nil || !ok {
		return r.StreamingHandlerConn.Receive(to)
	}
	first := r.message
	r.message = nil
	proto.Reset(into)
	proto.Merge(into, first)
	return nil
}
