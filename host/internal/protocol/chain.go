package protocol

import (
	"context"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// maxDepth is how many protocols may call each other within one call.
const maxDepth = 8

// liveCalls are the calls that may make others, by the accessor of the token that
// the peer was given for the call.
type liveCalls struct {
	mu    sync.Mutex
	calls map[string]*liveCall
}

// liveCall is one that is on its way.
type liveCall struct {
	ctx       context.Context //nolint:containedctx // calls that it makes end with it
	protocol  string
	chain     []string // the protocols from the first to this one
	origin    Origin
	requestID string
	may       []string // "scp.recall"
}

// Origin is who began a chain of calls.
type Origin struct{ Name, Trust string }

func (l *liveCalls) add(accessor string, c *liveCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = make(map[string]*liveCall)
	}
	l.calls[accessor] = c
}

func (l *liveCalls) remove(accessor string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, accessor)
}

// Within finds the call that a peer serves under a token, by its accessor, and
// says whether it may call an operation of a protocol from there: where its
// configuration lists it, the protocol does not serve the same chain already, and
// the chain is not too long. holder is the peer that presents the token.
func (s *Service) Within(accessor, holder, protocol, operation string) (*Parent, error) {
	s.live.mu.Lock()
	c := s.live.calls[accessor]
	s.live.mu.Unlock()
	if c == nil || c.protocol != holder {
		return nil, sdk.Errorf(codes.PermissionDenied, ReasonCallEnded, "the token is not that of a call which protocol %s is serving", clip(holder)).
			WithRemedy("call others while a call is being served, under the token that came with it")
	}
	chain := strings.Join(append(slices.Clone(c.chain), protocol), " → ")
	switch {
	case !slices.Contains(c.may, protocol+"."+operation):
		return nil, sdk.Errorf(codes.PermissionDenied, ReasonNotListed, "protocol %s may not call %s of %s", c.protocol, clip(operation), clip(protocol)).
			WithRemedy("whoever runs the host lists it in `calls` of protocol %q", c.protocol)
	case slices.Contains(c.chain, protocol):
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonCycle, "the calls would go round in a circle: %s", chain).
			WithRemedy("have one of them answer without calling the other")
	case len(c.chain) >= maxDepth:
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonDepth, "the calls are nested too deeply: %s", chain).
			WithRemedy("a chain has at most %d protocols", maxDepth)
	}
	return &Parent{call: c}, nil
}

// Parent is a call within which another is made.
type Parent struct{ call *liveCall }

// Origin is who began the chain.
func (p *Parent) Origin() Origin { return p.call.origin }

// RequestID is that of the call.
func (p *Parent) RequestID() string { return p.call.requestID }

// chainOf are the protocols of a call, the last of which is its own.
func chainOf(c *Call) []string {
	if c.Parent == nil {
		return []string{c.Protocol}
	}
	return append(slices.Clone(c.Parent.call.chain), c.Protocol)
}
