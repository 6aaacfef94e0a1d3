package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sop-host/sop/host/internal/answer"
	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// readingVerbs are the verbs of permissions that change nothing; what takes any
// other has an idempotency_key and validate_only in its request.
var readingVerbs = []string{"read", "status", "whoami", "watch", "validate", "verify", "export"}

// changes says whether a permission lets something be changed.
func changes(permission string) bool {
	_, verb, _ := strings.Cut(permission, ".")
	return !slices.Contains(readingVerbs, verb)
}

// keepsItsOwn are the methods that serve their key themselves.
var keepsItsOwn = map[string]bool{
	apiv1connect.TokenConsumeTokenProcedure: true, // in the transaction that takes the use
}

// repeatedHeader stands in an answer that was given before.
const repeatedHeader = "Sop-Repeated-Answer"

// idempotent answers a call with an idempotency key that was served before as
// it was then. It stands behind the door: who may not call gets no answer.
type idempotent struct {
	keeper *answer.Keeper
	limit  func(permission string) time.Duration
}

// keyed is a request that may have a key.
type keyed interface {
	proto.Message
	GetIdempotencyKey() string
	GetValidateOnly() bool
}

// WrapUnary implements [connect.Interceptor].
func (i *idempotent) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		msg, ok := req.Any().(keyed)
		if !ok || i.keeper == nil || msg.GetIdempotencyKey() == "" || msg.GetValidateOnly() || keepsItsOwn[req.Spec().Procedure] {
			return next(ctx, req)
		}
		digest, err := requestDigest(req.Spec().Procedure, msg, "idempotency_key")
		if err != nil {
			return nil, err
		}
		caller, _ := nexus.CallerFrom(ctx)
		call := answer.Call{
			Caller: caller.Name, Key: msg.GetIdempotencyKey(), Request: digest,
			Repeatable: req.Spec().IdempotencyLevel == connect.IdempotencyIdempotent,
		}
		var resp connect.AnyResponse
		var failed error
		stored, again, err := i.keeper.Do(ctx, call, func() ([]byte, bool) {
			// Whoever goes away may come back for the answer.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.limit(permission(req.Spec())))
			defer cancel()
			resp, failed = next(ctx, req)
			return encodeAnswer(resp, failed)
		})
		if err != nil || !again {
			return resp, errors.Join(err, failed)
		}
		return decodeAnswer(req.Spec(), stored)
	}
}

// encodeAnswer says whether an answer is final: a failure that may pass is not.
func encodeAnswer(resp connect.AnyResponse, failed error) (text []byte, final bool) {
	out := &spb.Status{}
	if failed != nil {
		var wire *connect.Error
		if !errors.As(wireError(failed), &wire) || !finalCode(codes.Code(wire.Code())) || apierr.Decode(wire).Retryable {
			return nil, false
		}
		out.Code, out.Message = int32(wire.Code()), wire.Message()
		for _, d := range wire.Details() {
			out.Details = append(out.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type(), Value: d.Bytes()})
		}
	} else {
		msg, ok := resp.Any().(proto.Message)
		if !ok {
			return nil, false
		}
		packed, err := anypb.New(msg)
		if err != nil {
			return nil, false
		}
		out.Details = []*anypb.Any{packed}
	}
	text, err := proto.Marshal(out)
	return text, err == nil
}

// finalCode says whether the same call would fail in the same way again.
func finalCode(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return true
	}
	return false
}

// decodeAnswer is the reverse of encodeAnswer.
func decodeAnswer(spec connect.Spec, text []byte) (connect.AnyResponse, error) {
	in := &spb.Status{}
	if err := proto.Unmarshal(text, in); err != nil {
		return nil, err
	}
	if in.GetCode() != 0 {
		out := connect.NewError(connect.Code(in.GetCode()), errors.New(in.GetMessage()))
		out.Meta().Set(repeatedHeader, "true")
		for _, d := range in.GetDetails() {
			if detail, err := connect.NewErrorDetail(d); err == nil {
				out.AddDetail(detail)
			}
		}
		return nil, out
	}
	method, ok := spec.Schema.(protoreflect.MethodDescriptor)
	if !ok || len(in.GetDetails()) != 1 {
		return nil, errors.New("stored answer without a message")
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, err
	}
	msg := kind.New().Interface()
	if err := in.GetDetails()[0].UnmarshalTo(msg); err != nil {
		return nil, err
	}
	out := connect.NewResponse(&emptypb.Empty{})
	out.Header().Set(repeatedHeader, "true")
	return repeated{out, msg}, nil
}

// repeated is a response whose type is known when it is read.
type repeated struct {
	connect.AnyResponse
	msg proto.Message
}

// Any implements [connect.AnyResponse].
func (r repeated) Any() any { return r.msg }

// WrapStreamingClient implements [connect.Interceptor]; the server has no clients.
func (i *idempotent) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements [connect.Interceptor]; streams change nothing.
func (i *idempotent) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

var _ keyed = (*apiv1.IssueTokenRequest)(nil)
