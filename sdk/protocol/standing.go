package protocol

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// ReasonInactive refuses a call of a peer that is not in service.
const ReasonInactive = "PEER_INACTIVE"

// Standing keeps the mode of a peer and counts its calls in flight, as the
// contract wants it. The zero value is inactive; all methods are safe for
// concurrent use.
type Standing struct {
	mu   sync.Mutex
	mode pluginv1.Mode
	in   int64
	idle chan struct{} // closed when nothing is in flight; nil: nobody waits
}

// Set changes the mode and returns it.
func (s *Standing) Set(mode pluginv1.Mode) pluginv1.Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = mode
	return mode
}

// Mode returns the mode; it never is unspecified.
func (s *Standing) Mode() pluginv1.Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.modeLocked()
}

func (s *Standing) modeLocked() pluginv1.Mode {
	if s.mode == pluginv1.Mode_MODE_UNSPECIFIED {
		return pluginv1.Mode_MODE_INACTIVE
	}
	return s.mode
}

// Enter lets a call in, which calls leave when it ends; it fails while the peer is
// inactive.
func (s *Standing) Enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.modeLocked() == pluginv1.Mode_MODE_INACTIVE {
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonInactive, "the peer is not in service").WithRemedy("activate it first")
	}
	s.in++
	return sync.OnceFunc(s.leave), nil
}

func (s *Standing) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in--
	if s.in == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// Drain lets no further call in, and returns when those in flight have ended, or
// ctx has.
func (s *Standing) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.mode = pluginv1.Mode_MODE_INACTIVE
	if s.in == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status returns mode and calls in flight, for Status.
func (s *Standing) Status() *pluginv1.StatusResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &pluginv1.StatusResponse{Mode: s.modeLocked(), InFlight: s.in}
}

// Unknown refuses an operation that a peer does not have.
func Unknown(operation string) *sdk.Error {
	return sdk.Errorf(codes.Unimplemented, "PEER_OPERATION_UNKNOWN", "there is no operation %q", operation).
		WithRemedy("the status of the protocol names its operations")
}
