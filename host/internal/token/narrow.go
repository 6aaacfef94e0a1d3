package token

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// maxDepth bounds how often a token can be handed on.
const maxDepth = 8

// ReasonWider says that a child would permit what its parent does not.
const ReasonWider = "TOKEN_WIDER"

// narrow checks and completes the spec of a child of t. What it leaves empty is
// its parent's; one use; as long as its parent lives. The parent's uses are
// compared when they are taken.
func (t *Token) narrow(s *Spec, now time.Time) error {
	if t.Depth >= maxDepth {
		return sdk.Errorf(codes.FailedPrecondition, "TOKEN_DEPTH", "token %s was handed on %d times, which is as far as it goes", t.Accessor, t.Depth).
			WithRemedy("issue the child from one of its ancestors")
	}
	if err := s.inherit(t); err != nil {
		return err
	}
	if err := s.bindings(); err != nil {
		return err
	}
	if !slices.Contains(t.Operations, Anything) {
		for _, op := range s.Operations {
			if !slices.Contains(t.Operations, op) {
				return wider("operations")
			}
		}
	}
	if !allCovered(t.Paths, s.Paths) {
		return wider("paths")
	}
	return s.fitLife(t, now)
}

// inherit fills in what the child is bound to because its parent is.
func (s *Spec) inherit(t *Token) error {
	if s.Type == "" {
		s.Type = t.Type
	}
	if s.Type != t.Type {
		return wider("type")
	}
	for _, b := range []struct {
		field  string
		bound  string
		wanted *string
	}{
		{"protocol", t.Protocol, &s.Protocol}, {"task", t.Task, &s.Task}, {"workspace", t.Workspace, &s.Workspace},
	} {
		if *b.wanted == "" {
			*b.wanted = b.bound
		}
		if b.bound != "" && *b.wanted != b.bound {
			return wider(b.field)
		}
	}
	if len(s.Operations) == 0 {
		s.Operations = t.Operations
	}
	if len(s.Paths) == 0 {
		s.Paths = t.Paths
	}
	if s.Requester == "" {
		s.Requester = t.Requester
	}
	if s.MaxUses == 0 {
		s.MaxUses = 1
	}
	return nil
}

// fitLife bounds the life of a child, renewals included, by what its parent has
// left now.
func (s *Spec) fitLife(t *Token, now time.Time) error {
	left := t.ExpiresAt.Sub(now)
	wait := max(0, s.NotBefore.Sub(now))
	if s.MaxLife == 0 {
		s.MaxLife = left
	}
	if s.TTL == 0 {
		s.TTL = s.MaxLife - wait
	}
	switch {
	case s.MaxLife < 0 || s.MaxLife > left:
		return wider("max_life")
	case s.TTL <= 0 || s.TTL > s.MaxLife || wait > s.MaxLife-s.TTL:
		return wider("ttl")
	case s.MaxUses < 0 || s.MaxUses > t.MaxUses:
		return wider("max_uses")
	}
	return nil
}

func wider(field string) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, ReasonWider, "a child never permits more than its parent: %s", field).
		WithField(field, "").WithRemedy("ask for a part of what the parent permits")
}
