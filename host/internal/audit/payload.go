package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"sync"
)

// Attributes that say what was asked: the hash and the size of the message that
// came with a request. Who writes a record cannot set them.
const (
	AttributePayloadSum  = "payload_sha256"
	AttributePayloadSize = "payload_bytes"
)

// Payload is the message of a request. It is hashed once, when the first record
// about the request is written, and never where there is none.
type Payload struct {
	encode func() ([]byte, error)
	once   sync.Once
	values map[string]string
}

// NewPayload returns the payload that encode encodes. The message behind it must
// not change until the payload has been hashed.
func NewPayload(encode func() ([]byte, error)) *Payload { return &Payload{encode: encode} }

// attributes returns what records say of it. What has no encoding is said to
// have none.
func (p *Payload) attributes() map[string]string {
	p.once.Do(func() {
		text, err := p.encode()
		if err != nil {
			p.values = map[string]string{AttributePayloadSum: "none: it cannot be encoded"}
			return
		}
		sum := sha256.Sum256(text)
		p.values = map[string]string{AttributePayloadSum: hex.EncodeToString(sum[:]), AttributePayloadSize: strconv.Itoa(len(text))}
	})
	return p.values
}

type payloadKey struct{}

// WithPayload returns a context in which records are about a request with p.
func WithPayload(ctx context.Context, p *Payload) context.Context {
	return context.WithValue(ctx, payloadKey{}, p)
}

// HashPayload hashes the payload in ctx, if there is one, so that it need not be
// done while a record is written and others wait.
func HashPayload(ctx context.Context) {
	if p, ok := ctx.Value(payloadKey{}).(*Payload); ok {
		p.attributes()
	}
}

// carry adds the payload in ctx to r, which must have been cleaned: whatever
// number of attributes there are, these are among them.
func (r *Record) carry(ctx context.Context) {
	p, ok := ctx.Value(payloadKey{}).(*Payload)
	if !ok {
		return
	}
	asked := p.attributes()
	all := make(map[string]string, len(r.Attributes)+len(asked)) // the caller may hold the other
	maps.Copy(all, r.Attributes)
	maps.Copy(all, asked)
	r.Attributes = all
}

// Within returns r with what ctx knows of the request that it is about, for a
// record that is written later, without ctx.
func (r Record) Within(ctx context.Context) Record {
	r.belong(ctx)
	r.Attributes = maps.Clone(r.Attributes)
	r.carry(ctx)
	return r
}
