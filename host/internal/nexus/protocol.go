package nexus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// PermissionCall is what every call of a protocol takes.
const PermissionCall = "protocol.call"

// reasonWrongType refuses a token of another type than a call takes.
const reasonWrongType = "TOKEN_WRONG_TYPE"

// Protocols are the peers in the stack; *protocol.Service is one.
type Protocols interface {
	List(ctx context.Context) []*protocol.Status
	Call(ctx context.Context, c *protocol.Call) ([]byte, protocol.Outcome, error)
	Stream(ctx context.Context, c *protocol.Call, send func(piece []byte) error) (protocol.Outcome, error)
	Check(c *protocol.Call) error
	Activate(ctx context.Context, name string, mode protocol.Mode, by string) (*protocol.Status, error)
	CheckActivate(name string) error
	Deactivate(ctx context.Context, name, by, why string) (*protocol.Status, error)
	CheckDeactivate(name string) error
	// Sandboxed says whether all that an operation does stays in a sandbox.
	Sandboxed(name, operation string) bool
	// Within finds the call that a protocol serves under a token, from which it may
	// call another.
	Within(accessor, holder, protocol, operation string) (*protocol.Parent, error)
}

// ProtocolCall is one call of a protocol, as it was asked for.
type ProtocolCall struct {
	Protocol, Operation string
	Payload             []byte
	Timeout             time.Duration
	Context             map[string]string
	Key                 string // makes a retry take one use
	Token               string // secret; empty: the one in the context
}

// ProtocolResource is a protocol as policy sees it.
func ProtocolResource(name string) policy.Resource {
	return policy.Resource{Ref: policy.Ref{Type: policy.TypeProtocol, ID: name}}
}

// CallFacts are what policy is told of a call beside who asks; parent is the call
// within which it is made, or nil.
func (n *Nexus) CallFacts(name, operation string, parent *protocol.Parent) map[string]any {
	facts := map[string]any{"operation": operation, "sandboxed": n.Protocols != nil && n.Protocols.Sandboxed(name, operation)}
	if parent != nil {
		facts["chained"], facts["origin_trust"] = true, parent.Origin().Trust
	}
	return facts
}

// CallProtocol makes a call that has been authorised, under the token of the
// caller, and records what came of it.
func (n *Nexus) CallProtocol(ctx context.Context, c *ProtocolCall) ([]byte, protocol.Outcome, error) {
	ctx, call, rec, err := n.protocolCall(ctx, c)
	if err != nil {
		return nil, protocol.Outcome{}, err
	}
	result, out, err := n.Protocols.Call(ctx, call)
	if err == nil {
		rec.result(result)
	}
	return result, out, n.called(ctx, rec, out, err)
}

// StreamProtocol is CallProtocol for a result that comes in pieces.
func (n *Nexus) StreamProtocol(ctx context.Context, c *ProtocolCall, send func(piece []byte) error) error {
	ctx, call, rec, err := n.protocolCall(ctx, c)
	if err != nil {
		return err
	}
	out, err := n.Protocols.Stream(ctx, call, func(piece []byte) error {
		rec.result(piece)
		rec.pieces++
		return send(piece)
	})
	return n.called(ctx, rec, out, err)
}

// CheckProtocolCall says whether a call would be made, and makes none.
func (n *Nexus) CheckProtocolCall(ctx context.Context, c *ProtocolCall) error {
	ctx, call, rec, err := n.protocolCall(ctx, c)
	if err != nil {
		return err
	}
	if err := n.Protocols.Check(call); err != nil {
		return err
	}
	_, err = n.Tokens.CheckConsume(ctx, rec.secret, rec.use)
	if err != nil {
		return n.TokenRefused(ctx, PermissionCall, rec.secret, err)
	}
	return nil
}

// callRecord gathers what is recorded of a call.
type callRecord struct {
	call     *protocol.Call
	caller   Caller
	secret   string
	use      token.Request
	accessor string
	sum      hash.Hash // of the result
	bytes    int
	pieces   int
}

func (r *callRecord) result(piece []byte) {
	if r.sum == nil {
		r.sum = sha256.New()
	}
	r.sum.Write(piece)
	r.bytes += len(piece)
}

// protocolCall prepares a call under the token that the caller presents. In the
// context that it returns records are about the payload.
func (n *Nexus) protocolCall(ctx context.Context, c *ProtocolCall) (context.Context, *protocol.Call, *callRecord, error) {
	caller, _ := CallerFrom(ctx)
	if n.Protocols == nil {
		return ctx, nil, nil, sdk.Errorf(codes.Unavailable, protocol.ReasonStopped, "the host has no protocols yet").WithRemedy("call again when it has started")
	}
	if caller.System() {
		ctx = token.WithReasons(ctx)
	}
	presented, err := n.present(ctx, PermissionCall, c.Token)
	if err != nil {
		return ctx, nil, nil, err
	}
	if presented.Type != token.Operation {
		return ctx, nil, nil, n.TokenRefused(ctx, PermissionCall, presented.secret, sdk.Errorf(codes.PermissionDenied, reasonWrongType,
			"a protocol is called under a token of type %s, and this is one of type %s", token.Operation, presented.Type).
			WithRemedy("have one issued: sop token issue --type operation --protocol %s --operation %s", c.Protocol, c.Operation))
	}
	rec := &callRecord{caller: caller, secret: presented.secret, accessor: presented.Accessor, use: token.Request{
		Requester: caller.Name, Protocol: c.Protocol, Operation: c.Operation, Source: caller.Name, Key: c.Key,
	}}
	rec.call = &protocol.Call{
		Protocol: c.Protocol, Operation: c.Operation, Payload: c.Payload, Timeout: c.Timeout, Context: c.Context,
		Origin: protocol.Origin{Name: caller.Name, Trust: string(caller.Trust)}, Parent: presented.parent,
		Take: func(ctx context.Context) error {
			_, err := n.Tokens.Consume(ctx, rec.secret, rec.use)
			if err != nil {
				return n.TokenRefused(ctx, PermissionCall, rec.secret, err)
			}
			return nil
		},
	}
	if presented.parent != nil {
		rec.call.Origin = presented.parent.Origin()
	}
	return ctx, rec.call, rec, nil
}

// called records what came of a call, and returns err. What has happened is not
// undone when that cannot be recorded: the use of the token is on record.
func (n *Nexus) called(ctx context.Context, rec *callRecord, out protocol.Outcome, err error) error {
	if !out.Sent {
		return err // it was refused, which costs nothing and is for the caller to know
	}
	r := audit.Record{
		Actor: rec.caller.Name, Action: PermissionCall, Resource: "protocol/" + rec.call.Protocol, Outcome: audit.Success, Reason: "answered", Token: rec.accessor,
		Attributes: map[string]string{
			"operation": rec.call.Operation, "request_id": out.RequestID, "took": out.Took.Round(time.Microsecond).String(),
		},
	}
	if rec.sum != nil {
		r.Attributes["result_sha256"], r.Attributes["result_bytes"] = hex.EncodeToString(rec.sum.Sum(nil)), strconv.Itoa(rec.bytes)
	}
	if rec.pieces > 0 {
		r.Attributes["pieces"] = strconv.Itoa(rec.pieces)
	}
	if out.Snapshot != "" {
		r.Attributes["snapshot"] = out.Snapshot
	}
	if p := rec.call.Parent; p != nil {
		r.Attributes["parent_request"], r.Attributes["origin"] = p.RequestID(), p.Origin().Name
	}
	if err != nil {
		e := sdk.FromError(err)
		r.Outcome, r.Reason, r.Attributes["code"] = audit.Failure, e.Message, e.Reason
	}
	if n.Audit == nil {
		return err
	}
	if auditErr := n.Audit.Append(context.WithoutCancel(ctx), r); auditErr != nil {
		n.Logger.Error("the outcome of a call could not be recorded", "protocol", rec.call.Protocol, "request_id", out.RequestID, "error", auditErr)
	}
	return err
}

// Presented is a token that came with a request, and was genuine, alive and the
// caller's own when it came.
type Presented struct {
	*token.Token
	secret string
	parent *protocol.Parent // see WithParent
}

type presentedKey struct{}

// WithPresented looks at the token that a caller presents with a request, which
// costs no use, and returns a context that has it. A token that does not hold is
// a refusal of the request, and recorded. An empty one is none.
func (n *Nexus) WithPresented(ctx context.Context, permission, secret string) (context.Context, *Presented, error) {
	c, known := CallerFrom(ctx)
	if secret == "" || !known {
		return ctx, nil, nil
	}
	judged := ctx
	if c.System() {
		judged = token.WithReasons(ctx)
	}
	t, err := n.Tokens.Validate(judged, secret, token.Request{Requester: c.Name, Source: c.Name, NamedOnly: true})
	if err != nil {
		return ctx, nil, n.TokenRefused(ctx, permission, secret, err)
	}
	p := &Presented{Token: t, secret: secret}
	return context.WithValue(ctx, presentedKey{}, p), p, nil
}

// present returns the token of a request: secret, or the one in ctx.
func (n *Nexus) present(ctx context.Context, permission, secret string) (*Presented, error) {
	p, _ := ctx.Value(presentedKey{}).(*Presented)
	if secret == "" && p != nil || p != nil && p.secret == secret {
		return p, nil
	}
	_, p, err := n.WithPresented(ctx, permission, secret)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, sdk.Errorf(codes.PermissionDenied, "TOKEN_MISSING", "a protocol is called under a token, and none was presented").
			WithRemedy("have one issued (sop token issue --type operation) and send its secret in the Sop-Token header, or name its file with --token-file")
	}
	return p, nil
}

// Parent finds the call within which the plugin in ctx calls another protocol,
// under the token that it presents.
func (n *Nexus) Parent(p *Presented, holder Caller, name, operation string) (*protocol.Parent, error) {
	peer, isPlugin := strings.CutPrefix(holder.Name, PluginName("protocol."))
	if !isPlugin || holder.Method != MethodPlugin || p == nil || n.Protocols == nil {
		return nil, sdk.Errorf(codes.PermissionDenied, protocol.ReasonCallEnded, "%s serves no call of a protocol", holder.Name).
			WithRemedy("call others under the token that came with a call")
	}
	parent, err := n.Protocols.Within(p.Accessor, peer, name, operation)
	if err != nil {
		return nil, err
	}
	p.parent = parent
	return parent, nil
}
