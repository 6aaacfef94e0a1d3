package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/sdk/fault"
)

// failure is an error as it is shown, with the exit code it asks for.
type failure struct {
	*fault.Error
	exit        int
	diagnostics located
}

// located is what is wrong with a configuration, line by line.
type located interface {
	error
	HasErrors() bool
	WriteText(w io.Writer, color bool, width int) error
}

// usagef makes the error of a command that was called wrongly.
func usagef(format string, args ...any) *fault.Error {
	return fault.Errorf(codes.InvalidArgument, "USAGE", format, args...)
}

// hereError is an error that arose in this process rather than in a host that
// was asked; no host was unreachable then.
type hereError struct{ error }

// Unwrap returns the error itself.
func (e hereError) Unwrap() error { return e.error }

func here(err error) error {
	if err == nil {
		return nil
	}
	return hereError{err}
}

// explain finds out what to say about err and how to exit.
func explain(err error) failure {
	var diagnostics located
	if errors.As(err, &diagnostics) && diagnostics.HasErrors() {
		e := fault.Errorf(codes.InvalidArgument, "CONFIG_INVALID", "the configuration is not valid: %s", diagnostics.Error())
		return failure{Error: e, exit: exitFailed, diagnostics: diagnostics}
	}
	e := joined(err)
	f := failure{Error: e, exit: exitCode(e.Code)}
	if local := (hereError{}); errors.As(err, &local) && f.exit == exitUnreachable {
		f.exit = exitFailed
	}
	return f
}

// joined makes one error of several that were joined: the first decides how to
// exit, and all are told.
func joined(err error) *fault.Error {
	parts := split(err)
	if len(parts) <= 1 {
		return asError(err)
	}
	first := *asError(parts[0])
	for _, part := range parts[1:] {
		e := asError(part)
		first.Message += "\n" + e.Message
		if e.Remedy != "" && !strings.Contains(first.Remedy, e.Remedy) {
			first.Remedy = joinNonEmpty("\n", first.Remedy, e.Remedy)
		}
	}
	return &first
}

// split returns what errors.Join put together.
func split(err error) []error {
	if local, isLocal := err.(hereError); isLocal { //nolint:errorlint // this error itself, not one within
		return split(local.error)
	}
	many, isMany := err.(interface{ Unwrap() []error })
	if !isMany {
		return []error{err}
	}
	var parts []error
	var messages []string
	for _, part := range many.Unwrap() {
		parts = append(parts, split(part)...)
		messages = append(messages, part.Error())
	}
	if strings.Join(messages, "\n") != err.Error() {
		return []error{err} // it says more than its parts
	}
	return parts
}

func asError(err error) *fault.Error {
	var wire *connect.Error
	var plain *fault.Error
	switch {
	case errors.As(err, &plain):
		return plain
	case errors.As(err, &wire):
		return fromWire(wire)
	case errors.Is(err, context.DeadlineExceeded):
		return timeoutError(err)
	case errors.Is(err, context.Canceled):
		return fault.Errorf(codes.Canceled, "INTERRUPTED", "interrupted")
	case errors.Is(err, fs.ErrNotExist):
		return fault.Errorf(codes.NotFound, "FILE_NOT_FOUND", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Errorf(codes.PermissionDenied, "FILE_DENIED", "%w", err)
	}
	return fault.Errorf(codes.Unknown, "", "%w", err)
}

func timeoutError(cause error) *fault.Error {
	e := fault.Errorf(codes.DeadlineExceeded, "TIMEOUT", "no answer in time").
		WithRemedy("allow more with --timeout, or look at `sop status` for what the host is busy with")
	e.Cause = cause
	return e
}

// fromWire translates what a client returned: the host's own error, or what
// kept the call from reaching it.
func fromWire(wire *connect.Error) *fault.Error {
	var dial *dialError
	if errors.As(wire, &dial) {
		return dial.explain()
	}
	if e := untrusted(wire); e != nil {
		return e
	}
	var own *fault.Error
	if local := (hereError{}); errors.As(wire, &local) && errors.As(local, &own) {
		return own
	}
	if cut(wire) {
		e := fault.Errorf(codes.Unavailable, "CONNECTION_LOST", "the host ended the connection before its answer was complete")
		e.Cause = wire
		return e.WithRemedy("see `sop status` and the host's log: it was stopped, or has too many connections; " +
			"what was to be changed may have been, so look first, or repeat it with the same --idempotency-key")
	}
	e := apierr.Decode(wire)
	if e.Code == codes.DeadlineExceeded && e.Reason == "" {
		return timeoutError(wire) // ours, whichever side noticed it first
	}
	return e
}

// cut says that the connection ended under the call, and nobody here ended it.
func cut(wire *connect.Error) bool {
	if connect.IsWireError(wire) || errors.Is(wire, context.Canceled) || errors.Is(wire, context.DeadlineExceeded) {
		return false
	}
	const idle = "http: server closed idle connection" // before anything was sent; net/http has no name for it
	ends := []error{syscall.EPIPE, syscall.ECONNRESET, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed}
	return wire.Message() == idle || slices.ContainsFunc(ends, func(end error) bool { return errors.Is(wire, end) })
}

// report writes err to standard error in the form that was asked for and
// returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	if quiet := exitError(0); errors.As(err, &quiet) {
		return int(quiet)
	}
	f := explain(err)
	if a.json() {
		a.reportJSON(f)
	} else {
		a.reportText(f)
	}
	return f.exit
}

func (a *app) reportJSON(f failure) {
	type field struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	}
	type body struct {
		Code        string            `json:"code"`
		Reason      string            `json:"reason"`
		Message     string            `json:"message"`
		Remedy      string            `json:"remedy"`
		Fields      []field           `json:"fields,omitempty"`
		Retryable   bool              `json:"retryable,omitempty"`
		RetryAfter  string            `json:"retry_after,omitempty"`
		Metadata    map[string]string `json:"metadata,omitempty"`
		Diagnostics any               `json:"diagnostics,omitempty"`
	}
	out := body{
		Code: connect.Code(f.Code).String(), Reason: f.Reason, Message: f.Message, Remedy: f.Remedy,
		Retryable: f.Retryable, Metadata: f.Metadata,
	}
	for _, v := range f.Fields {
		out.Fields = append(out.Fields, field{v.Field, v.Message})
	}
	if f.Retryable && f.RetryAfter > 0 {
		out.RetryAfter = f.RetryAfter.String()
	}
	if f.diagnostics != nil {
		out.Diagnostics = f.diagnostics
	}
	enc := json.NewEncoder(a.Err)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(map[string]body{"error": out}) // nowhere left to report to
}

func (a *app) reportText(f failure) {
	palette := a.palette(a.ErrTerminal)
	if f.diagnostics != nil {
		_ = f.diagnostics.WriteText(a.Err, bool(palette), a.width())
		return
	}
	a.note("%s %s\n", palette.Paint(term.BoldRed, "error:"), indentAfterFirst(term.SafeLines(f.Message)))
	for _, v := range f.Fields {
		if v.Message == f.Message {
			a.note("%s %s\n", palette.Paint(term.Bold, "field:"), term.Safe(v.Field))
			continue
		}
		a.note("%s %s: %s\n", palette.Paint(term.Bold, "field:"), term.Safe(v.Field), indentAfterFirst(term.SafeLines(v.Message)))
	}
	if f.Remedy != "" {
		a.note("%s %s\n", palette.Paint(term.BoldCyan, "remedy:"), indentAfterFirst(term.SafeLines(f.Remedy)))
	}
	if f.Retryable && f.RetryAfter > 0 {
		a.note("%s in %s\n", palette.Paint(term.BoldCyan, "retry:"), f.RetryAfter)
	}
}

func indentAfterFirst(s string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ")
}
