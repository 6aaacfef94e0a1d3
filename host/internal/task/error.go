package task

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Reasons of errors.
const (
	ReasonNotFound   = "TASK_NOT_FOUND"
	ReasonAmbiguous  = "TASK_AMBIGUOUS"
	ReasonInvalid    = "TASK_INVALID"
	ReasonTransition = "TASK_TRANSITION"
	ReasonFence      = "TASK_FENCE"     // another holds it now, or nobody does
	ReasonNotDue     = "TASK_NOT_DUE"   // it may be claimed later
	ReasonBusy       = "TASK_BUSY"      // as many are held as may be
	ReasonGapsLive   = "TASK_GAPS_LIVE" // its gaps are not gone
	ReasonExists     = "TASK_EXISTS"    // there is an open task for the same
)

// Errors of references, for errors.Is on the cause.
var (
	ErrNotFound  = &sdk.Error{Code: codes.NotFound, Reason: ReasonNotFound, Message: "no such task"}
	ErrAmbiguous = &sdk.Error{Code: codes.InvalidArgument, Reason: ReasonAmbiguous, Message: "more than one task"}
)

// NotFound returns the error for a reference that names no task.
func NotFound(ref string) error {
	return sdk.Errorf(codes.NotFound, ReasonNotFound, "task %q: %w", clip(ref, maxRef), ErrNotFound).
		WithRemedy("list them with: sop task list")
}

// Ambiguous returns the error for a reference that names several tasks.
func Ambiguous(ref string) error {
	return sdk.Errorf(codes.InvalidArgument, ReasonAmbiguous, "task %q: %w begins so", clip(ref, maxRef), ErrAmbiguous).
		WithRemedy("give more of the id")
}

// maxRef is how much of a reference an error repeats, in bytes.
const maxRef = 100

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}

// stale is the error for what comes under a number that no longer counts.
func stale(t *Task, h Hold) error {
	if t.Holder != "" && t.Fence == h.Fence && !t.State.Closed() {
		return sdk.Errorf(codes.Aborted, ReasonFence, "task %s is held by %s, not by %s", t.ID, t.Holder, h.By).
			WithRemedy("the token of a claim is for whoever has claimed the task; claim one yourself")
	}
	now := "nobody holds it"
	if t.Holder != "" {
		now = t.Holder + " holds it"
	}
	if t.State.Closed() {
		now = "it has ended: " + t.Reason
	}
	return sdk.Errorf(codes.Aborted, ReasonFence, "task %s is not held under fence %d any more: it is %s at fence %d, and %s", t.ID, h.Fence, t.State, t.Fence, now).
		WithRemedy("stop working on it; what was done is not taken over. Claim the task again, if it is still there to be done")
}

// clipText is clip for what is shown: it ends at a whole character.
func clipText(s string, n int) string { return strings.ToValidUTF8(clip(s, n), "") }

func invalid(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, ReasonInvalid, format, args...).WithField(field, "")
}

func notDue(t *Task, at time.Time) error {
	e := sdk.Errorf(codes.FailedPrecondition, ReasonNotDue, "task %s is tried again at %s: %s", t.ID, t.DueAt.UTC().Format(time.RFC3339), t.Reason).
		WithRemedy("wait until then, or try it now with: sop task retry %s", t.ID)
	return e.RetryIn(t.DueAt.Sub(at))
}
