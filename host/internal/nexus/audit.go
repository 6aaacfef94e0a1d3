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
	// Archive moves whole segments to files; Archives lists them, and
	// ArchivedThrough is the last record in them, or 0.
	Archive(ctx context.Context, req audit.ArchiveRequest) ([]audit.Segment, error)
	Archives(ctx context.Context) ([]audit.Segment, error)
	ArchivedThrough(ctx context.Context) (uint64, error)
}

// Sinks says how carrying the log away from the host is going.
type Sinks interface {
	Sinks(ctx context.Context) ([]audit.SinkStatus, error)
}

// looks says whether a permission lets its holder look and nothing more. Such
// leave is recorded without waiting; see [Looks].
func looks(permission string) bool {
	return strings.HasSuffix(permission, ".read") || strings.HasSuffix(permission, ".status") || strings.HasSuffix(permission, ".validate") || permission == permissionWhoAmI
}

// recordedByFeature says whether the feature records what comes of a permission
// in the transaction that does it, so that the leave needs no record of its own.
func recordedByFeature(permission string) bool {
	return permission == "token.consume" || permission == PermissionCall // which takes a use of a token first
}

// permissionStop is what must not wait for anything: it ends what goes wrong.
const permissionStop = "host.stop"

// decision is the record of what Authorize decided.
func decision(permission string, c Caller, outcome audit.Outcome, reason string) audit.Record {
	actor := c.Name
	attributes := map[string]string{"method": string(c.Method)}
	switch {
	case actor == "":
		actor, attributes = "unauthenticated", make(map[string]string)
	case c.Method == MethodPeer:
		attributes["uid"], attributes["pid"] = strconv.FormatUint(uint64(c.UID), 10), strconv.Itoa(int(c.PID))
	}
	return audit.Record{
		Actor: actor, Action: "access." + permission, Resource: "permission/" + permission,
		Outcome: outcome, Reason: reason, Attributes: attributes,
	}
}

// permitted records that c may do what q asks for. What is more than looking
// must not happen when that cannot be recorded.
func (n *Nexus) permitted(ctx context.Context, q *question, c Caller) error {
	if n.Logger.IsDebug() { // to put together what would be told costs more than the rest
		n.Logger.Debug("permitted", "permission", q.permission, "caller", c.Name, "pid", c.PID)
	}
	if looks(q.permission) {
		if n.Looks != nil {
			n.Looks.add(ctx, q, c)
		}
		return nil
	}
	audit.HashPayload(ctx)
	if recordedByFeature(q.permission) {
		return nil
	}
	if n.Audit == nil {
		return sdk.Errorf(codes.Internal, "AUDIT_UNAVAILABLE", "%s must be recorded, and there is no audit log", q.permission)
	}
	r := decision(q.permission, c, audit.Success, "permitted")
	q.describe(ctx, &r)
	if err := n.Audit.Append(ctx, r); err != nil && q.permission == permissionStop {
		n.Logger.Error("an emergency stop could not be recorded; it is made all the same", "caller", c.Name, "error", err)
	} else if err != nil {
		n.Logger.Error("refused: the permission could not be recorded", "permission", q.permission, "caller", c.Name, "error", err)
		return err
	}
	return nil
}

// denied records that c may not do what q asks for, and returns why. It stays
// denied when that cannot be recorded.
func (n *Nexus) denied(ctx context.Context, q *question, c Caller, why *sdk.Error) error {
	r := decision(q.permission, c, audit.Denied, why.Reason)
	q.describe(ctx, &r)
	n.recordDenial(ctx, q.permission, c, r)
	return why
}

// recordDenial records a denial.
func (n *Nexus) recordDenial(ctx context.Context, permission string, c Caller, r audit.Record) {
	n.Logger.Warn("denied", "permission", permission, "caller", r.Actor, "pid", c.PID, "reason", r.Reason, "policy", r.Attributes["policy"])
	if n.OnDenied != nil {
		n.OnDenied(r.Reason)
	}
	if n.Audit == nil {
		return
	}
	audit.HashPayload(ctx)
	if err := n.Audit.Append(context.WithoutCancel(ctx), r); err != nil {
		n.Logger.Error("a denial could not be recorded", "permission", permission, "caller", r.Actor, "error", err)
	}
}
