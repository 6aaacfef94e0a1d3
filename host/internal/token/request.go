package token

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/sdk"
)

// Request says what a token is to be used for. What the token is bound to must
// be named and must agree.
type Request struct {
	Requester string // the agent that presents the token
	Protocol  string
	Operation string
	Task      string
	Workspace string
	Paths     []string // what is touched; relative to the workspace

	// Source is who is slowed down for wrong guesses; it is told by the
	// transport, not by the caller.
	Source string
	// Key makes a retry of Consume count once, for 24 hours; empty: each call
	// counts.
	Key string
	// NamedOnly leaves bindings unchecked that the request says nothing about:
	// to look at a token, never to let something happen. Consume refuses it.
	NamedOnly bool
}

// maxKey is how long an idempotency key may be, in bytes.
const maxKey = 128

// permits says why the token is not for what is asked, whatever its state. It
// depends on nothing that ever changes.
func (t *Token) permits(r *Request) error {
	differs := func(bound, given string) bool {
		return bound != "" && bound != given && (given != "" || !r.NamedOnly)
	}
	asked := r.Operation != "" || !r.NamedOnly
	switch {
	case differs(t.Requester, r.Requester):
		return t.denied(ReasonWrongAgent, "was issued to another agent").WithRemedy("use a token of your own")
	case differs(t.Protocol, r.Protocol):
		return t.denied(ReasonWrongProtocol, "is for the protocol %q", t.Protocol).WithRemedy("name that protocol, or get a token for yours")
	case asked && !permitsOperation(t.Operations, r.Operation):
		return t.denied(ReasonWrongOperation, "is not for that operation").
			WithRemedy("it is for: %s", strings.Join(t.Operations, ", "))
	case differs(t.Task, r.Task):
		return t.denied(ReasonForeignTask, "is for the task %q", t.Task).WithRemedy("name that task, or get a token for yours")
	case differs(t.Workspace, r.Workspace):
		return t.denied(ReasonWrongWorkspace, "is for the workspace %q", t.Workspace).WithRemedy("name that workspace, or get a token for yours")
	}
	return t.permitsPaths(r)
}

func permitsOperation(bound []string, operation string) bool {
	return operation != "" && (slices.Contains(bound, operation) || slices.Contains(bound, Anything))
}

func (t *Token) permitsPaths(r *Request) error {
	if len(r.Paths) == 0 && (r.NamedOnly || len(t.Paths) == 0) {
		return nil
	}
	paths := make([]string, len(r.Paths))
	ok := true
	for i, p := range r.Paths {
		var clean bool
		paths[i], clean = cleanPath(p)
		ok = ok && clean && !strings.ContainsAny(p, "*?")
	}
	if ok && allCovered(t.Paths, paths) {
		return nil
	}
	if len(t.Paths) == 0 {
		return t.denied(ReasonWrongPath, "covers no path outside of the workspace").WithRemedy("name paths relative to the workspace")
	}
	return t.denied(ReasonWrongPath, "does not cover these paths").WithRemedy("it covers: %s", strings.Join(t.Paths, ", "))
}

// usable says why the token cannot be used at a time.
func (t *Token) usable(now time.Time) error {
	switch {
	case t.State == StateRevoked:
		return t.denied(ReasonRevoked, "was revoked: %s", t.Reason).WithRemedy("get another token")
	case t.State == StateCompleted:
		return t.exhausted()
	case t.State == StateExpired, t.lapsed(now):
		return t.denied(ReasonExpired, "expired at %s", t.ExpiresAt.UTC().Format(time.RFC3339)).
			WithRemedy("get another token; one that lives can be renewed within its greatest life")
	case now.Before(t.NotBefore):
		return t.denied(ReasonNotYet, "cannot be used before %s", t.NotBefore.UTC().Format(time.RFC3339)).WithRemedy("wait until then")
	case t.Remaining() == 0:
		return t.exhausted()
	}
	return nil
}

func (t *Token) exhausted() *sdk.Error {
	return t.denied(ReasonExhausted, "has no use left of %d", t.MaxUses).WithRemedy("get another token")
}

func (t *Token) denied(reason, format string, args ...any) *sdk.Error {
	return denial(reason, "token %s %s", t.Accessor, fmt.Sprintf(format, args...))
}

// digest tells requests with the same key apart.
func (r *Request) digest() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q", r.Requester, r.Protocol, r.Operation, r.Task, r.Workspace, r.Paths))
	return sum[:]
}
