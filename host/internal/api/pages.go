package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sop-host/sop/sdk"
)

// pages makes page tokens opaque: a token holds for the request that it was
// given out for, apart from the size of its pages, and for no other. Behind it
// are the tokens of the stores.
type pages struct{ key []byte }

const (
	maxPageToken = 16 << 10 // bytes
	pageMAC      = 16       // bytes
)

// paged is a request for a page.
type paged interface {
	proto.Message
	GetPageToken() string
	GetPageSize() int32
}

// WrapUnary implements [connect.Interceptor].
func (p *pages) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		msg, ok := req.Any().(paged)
		if !ok {
			return next(ctx, req)
		}
		if msg.GetPageSize() < 0 {
			return nil, sdk.Errorf(codes.InvalidArgument, "PAGE_SIZE", "a page cannot have %d items", msg.GetPageSize()).
				WithRemedy("ask for 1 to %d, or leave it out for %d", maxPage, defaultPage).WithField("page_size", "")
		}
		digest, err := requestDigest(req.Spec().Procedure, msg, "page_token", "page_size")
		if err != nil {
			return nil, err
		}
		if err := p.open(msg.ProtoReflect(), digest); err != nil {
			return nil, err
		}
		resp, err := next(ctx, req)
		if err == nil {
			if out, ok := resp.Any().(proto.Message); ok {
				p.seal(out.ProtoReflect(), digest)
			}
		}
		return resp, err
	}
}

// open replaces the token of a request by the one behind it.
func (p *pages) open(req protoreflect.Message, digest []byte) error {
	field := req.Descriptor().Fields().ByName("page_token")
	token := req.Get(field).String()
	if token == "" {
		return nil
	}
	if len(token) > maxPageToken {
		return badPage()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < pageMAC || !hmac.Equal(raw[:pageMAC], p.mac(digest, raw[pageMAC:])) {
		return badPage()
	}
	req.Set(field, protoreflect.ValueOfString(string(raw[pageMAC:])))
	return nil
}

// seal replaces the token of an answer by an opaque one.
func (p *pages) seal(resp protoreflect.Message, digest []byte) {
	field := resp.Descriptor().Fields().ByName("next_page_token")
	if field == nil || resp.Get(field).String() == "" {
		return
	}
	inner := []byte(resp.Get(field).String())
	resp.Set(field, protoreflect.ValueOfString(base64.RawURLEncoding.EncodeToString(append(p.mac(digest, inner), inner...))))
}

func (p *pages) mac(digest, inner []byte) []byte {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte("sop page 1\x00"))
	h.Write(digest) // of a fixed length
	h.Write(inner)
	return h.Sum(nil)[:pageMAC]
}

// requestDigest tells requests to one method apart, without the fields named.
func requestDigest(procedure string, msg proto.Message, without ...protoreflect.Name) ([]byte, error) {
	bare := proto.Clone(msg)
	fields := bare.ProtoReflect().Descriptor().Fields()
	for _, name := range without {
		if f := fields.ByName(name); f != nil {
			bare.ProtoReflect().Clear(f)
		}
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write([]byte(procedure + "\x00"))
	h.Write(text)
	return h.Sum(nil), nil
}

// WrapStreamingClient implements [connect.Interceptor]; the server has no clients.
func (p *pages) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements [connect.Interceptor]; streams have no pages.
func (p *pages) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
