package audit

import (
	"context"
	"crypto/sha256"
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
	sum    string
	size   string // empty: it has no encoding
}

// NewPayload returns the payload that encode encodes. The message behind it must
// not change until the payload has been hashed.
func NewPayload(encode func() ([]byte, error)) *Payload { return &Payload{encode: encode} }

// hash finds out what records say of it. What has no encoding is said to have
// none.
func (p *Payload) hash() {
	p.once.Do(func() {
		text, err := p.encode()
		if err != nil {
			p.sum = "none: it cannot be encoded"
			return
		}
		p.sum, p.size = Hash(sha256.Sum256(text)).String(), strconv.Itoa(len(text))
	})
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
		p.hash()
	}
}

// carry adds the payload in ctx to r, which must have been cleaned: whatever
// number of attributes there are, these are among them.
func (r *Record) carry(ctx context.Context) {
	p, ok := ctx.Value(payloadKey{}).(*Payload)
	if !ok {
		return
	}
	p.hash()
	all := make(map[string]string, len(r.Attributes)+2) // the caller may hold the other
	maps.Copy(all, r.Attributes)
	all[AttributePayloadSum], all[AttributePayloadSize] = p.sum, p.size
	if p.size == "" {
		delete(all, AttributePayloadSize)
	}
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
