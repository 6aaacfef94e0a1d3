package nexus

import (
	"context"
	"io"
	"iter"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/sdk"
)

// Audit is the log of what was done and decided; *audit.Log is one.
type Audit interface {
	// Append writes records durably, or returns an error and writes none.
	Append(ctx context.Context, records ...audit.Record) error
	List(ctx context.Context, filter audit.Filter) (audit.Page, error)
	// Follow goes on as the log grows, until ctx is done.
	Follow(ctx context.Context, filter audit.Filter) iter.Seq2[*audit.Record, error]
	// Verify compares the log with itself, with the checkpoints that are kept
	// with it and with those given.
	Verify(ctx context.Context, checkpoints ...string) (*audit.Report, error)
	Checkpoint(ctx context.Context) (*audit.Checkpoint, error)
	// Latest returns the latest checkpoint, or nil.
	Latest(ctx context.Context) (*audit.Checkpoint, error)
	PublicKey() string
	Export(ctx context.Context, format audit.Format, to io.Writer) error
}

// unrecorded says whether leave that was given under a permission makes no
// record of its own: where its holder may look and nothing more, since that is
// asked for all the time and would bury what matters; and where the feature
// records what comes of it in the transaction that does it.
func unrecorded(permission string) bool {
	return strings.HasSuffix(permission, ".read") || strings.HasSuffix(permission, ".validate") || permission == "token.consume"
}

// decision is the record of what Authorize decided.
func decision(permission string, c Caller, outcome audit.Outcome, reason string) audit.Record {
	actor := c.Name
	attributes := map[string]string{"method": string(c.Method)}
	switch {
	case actor == "":
		actor, attributes = "unauthenticated", nil
	case c.Method == MethodPeer:
		attributes["uid"], attributes["pid"] = strconv.FormatUint(uint64(c.UID), 10), strconv.Itoa(int(c.PID))
	}
	return audit.Record{
		Actor: actor, Action: "access." + permission, Resource: "permission/" + permission,
		Outcome: outcome, Reason: reason, Attributes: attributes,
	}
}

// permitted records that c may do what permission names. What is more than
// looking must not happen when that cannot be recorded.
func (n *Nexus) permitted(ctx context.Context, permission string, c Caller) error {
	n.Logger.Debug("permitted", "permission", permission, "caller", c.Name, "pid", c.PID)
	if unrecorded(permission) {
		return nil
	}
	if n.Audit == nil {
		return sdk.Errorf(codes.Internal, "AUDIT_UNAVAILABLE", "%s must be recorded, and there is no audit log", permission)
	}
	if err := n.Audit.Append(ctx, decision(permission, c, audit.Success, "permitted")); err != nil {
		n.Logger.Error("refused: the permission could not be recorded", "permission", permission, "caller", c.Name, "error", err)
		return err
	}
	return nil
}

// denied records that c may not do what permission names, and returns why. It
// stays denied when that cannot be recorded.
func (n *Nexus) denied(ctx context.Context, permission string, c Caller, why *sdk.Error) error {
	n.recordDenial(ctx, permission, c, why, "")
	return why
}

// recordDenial records a denial; accessor names the token that was presented,
// if one was.
func (n *Nexus) recordDenial(ctx context.Context, permission string, c Caller, why *sdk.Error, accessor string) {
	r := decision(permission, c, audit.Denied, why.Reason)
	r.Token = accessor
	n.Logger.Warn("denied", "permission", permission, "caller", r.Actor, "pid", c.PID, "reason", why.Reason)
	if n.Audit == nil {
		return
	}
	if err := n.Audit.Append(context.WithoutCancel(ctx), r); err != nil {
		n.Logger.Error("a denial could not be recorded", "permission", permission, "caller", r.Actor, "error", err)
	}
}
