package api

import (
	"crypto/rand"

	"github.com/sop-host/sop/host/internal/answer"
)

// Option changes how a [Server] works.
type Option func(*options)

type options struct {
	keeper *answer.Keeper
	pages  []byte
	limits func() Limits
}

// WithAnswers serves idempotency keys; without it they are ignored.
func WithAnswers(k *answer.Keeper) Option { return func(o *options) { o.keeper = k } }

// WithPageKey is the key under which page tokens hold, of 32 random bytes; one
// that stays the same makes them outlive the server.
func WithPageKey(key []byte) Option { return func(o *options) { o.pages = key } }

// WithLimits asks for the limits with every call, so that they can change.
func WithLimits(limits func() Limits) Option { return func(o *options) { o.limits = limits } }

func newOptions(opts []Option) *options {
	o := &options{limits: DefaultLimits}
	for _, opt := range opts {
		opt(o)
	}
	if o.pages == nil {
		o.pages = []byte(rand.Text() + rand.Text())
	}
	return o
}
