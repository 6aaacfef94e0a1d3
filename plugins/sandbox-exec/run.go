package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

const (
	pieceSize  = 32 << 10               // of output that is sent at once
	lookEvery  = 200 * time.Millisecond // at what the command puts into SOP_OUT
	endGrace   = 2 * time.Second        // between asking and killing
	pipeGrace  = time.Second            // for output that others than the command hold open
	tailSize   = 2 << 10                // of output that explains where nothing else does
	signalBase = 128
)

// Causes for which a command is ended.
var (
	errTimeout = errors.New("out of time")
	errBudget  = errors.New("the budget is spent")
	errOut     = errors.New("too much in SOP_OUT")
)

// run is one Generate.
type run struct {
	settings *settings
	task     *task
	req      *pluginv1.GenerateRequest
	prompt   []byte
	files    *files
	send     func(*pluginv1.GenerateResponse) error

	sending sync.Mutex // the stream takes one message at a time

	mu    sync.Mutex // guards what follows
	claim claim
	tail  []byte
}

// do runs the command and returns when it has ended.
func (r *run) do(ctx context.Context) (*pluginv1.GenerateResult, error) {
	life, end := context.WithCancelCause(ctx)
	defer end(nil)
	if limit := r.timeout(); limit > 0 {
		timer := time.AfterFunc(limit, func() { end(errTimeout) })
		defer timer.Stop()
	}
	cmd, outputs, err := r.command(life)
	if err != nil {
		return nil, err
	}
	if err := r.progress("running", strings.Join(r.settings.Command[:1], " ")); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return r.notStarted(err), nil
	}
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(over, end) })
	waited := cmd.Wait()
	for _, o := range outputs {
		o.flush()
	}
	close(over)
	watching.Wait()
	r.readFiles()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return r.result(exitOf(cmd, waited), context.Cause(life)), nil
}

// command is what will be run, with where its output goes.
func (r *run) command(ctx context.Context) (*exec.Cmd, []*output, error) {
	argv := r.argv()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.req.GetWorkDir(), r.environment(), pipeGrace
	cmd.Stdin = nil
	if r.settings.Stdin != "none" {
		in, err := os.Open(r.files.prompt)
		if err != nil {
			return nil, nil, err
		}
		context.AfterFunc(ctx, func() { _ = in.Close() }) // only read from
		cmd.Stdin = in
	}
	outputs := []*output{
		{run: r, stream: pluginv1.OutputChunk_STREAM_STDOUT, lines: true},
		{run: r, stream: pluginv1.OutputChunk_STREAM_STDERR},
	}
	cmd.Stdout, cmd.Stderr = outputs[0], outputs[1]
	// Asked first; the host kills all that is left when the run is over.
	cmd.Cancel = func() error {
		time.AfterFunc(endGrace, func() { _ = cmd.Process.Kill() }) // it may be dead
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = endGrace + pipeGrace
	return cmd, outputs, nil
}

// exitOf is the exit code as a shell would tell it.
func exitOf(cmd *exec.Cmd, err error) int {
	if cmd.ProcessState == nil || err != nil && cmd.ProcessState.Success() && !errors.Is(err, exec.ErrWaitDelay) {
		return exitCrashed
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return signalBase + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

func (r *run) notStarted(err error) *pluginv1.GenerateResult {
	return &pluginv1.GenerateResult{
		Outcome: pluginv1.GenerateResult_OUTCOME_GAVE_UP, ExitCode: exitCrashed,
		Explanation: fmt.Sprintf("The command %q could not be started: %v. The sandbox shows /usr and what read_only of its profile adds.", r.settings.Command[0], err),
	}
}

// result says what came of it.
func (r *run) result(code int, cause error) *pluginv1.GenerateResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	code = r.meaning(code, cause)
	out := &pluginv1.GenerateResult{Outcome: pluginv1.GenerateResult_OUTCOME_GAVE_UP, ExitCode: int32(code), Explanation: r.explanation(code, cause), Properties: r.claim.properties()}
	switch code {
	case exitChanged:
		out.Outcome = pluginv1.GenerateResult_OUTCOME_CHANGED
	case exitNothing:
		out.Outcome = pluginv1.GenerateResult_OUTCOME_UNCHANGED
	}
	return out
}

// meaning is the contract's code for how the command ended. The codes that the
// host assigns are not the command's to use.
func (r *run) meaning(code int, cause error) int {
	switch {
	case errors.Is(cause, errTimeout):
		return exitTimeout
	case errors.Is(cause, errBudget):
		return exitBudget
	case errors.Is(cause, errOut):
		return exitOutput
	}
	if to, mapped := r.settings.exit[code]; mapped {
		code = to
	} else if code >= exitOutput-1 && code <= exitTimeout+1 {
		code = exitCrashed
	}
	if code != exitChanged {
		return code
	}
	if r.claim.failed {
		return exitCrashed
	}
	return r.claim.outcome
}

func (r *run) explanation(code int, cause error) string {
	text := r.claim.explanation
	if text == "" {
		text = strings.TrimSpace(strings.ToValidUTF8(string(r.tail), "�"))
	}
	switch {
	case errors.Is(cause, errTimeout), errors.Is(cause, errBudget), errors.Is(cause, errOut):
		return strings.TrimSpace(fmt.Sprintf("The command was ended: %v. %s", cause, text))
	case code != exitChanged && code != exitNothing && r.claim.explanation == "":
		return strings.TrimSpace(fmt.Sprintf("The command ended with code %d. %s", code, text))
	}
	return text
}

func (r *run) progress(phase, message string) error {
	return r.sendOne(&pluginv1.GenerateResponse{Event: &pluginv1.GenerateResponse_Progress{Progress: &pluginv1.GenerateProgress{Phase: phase, Message: message}}})
}

func (r *run) sendOne(m *pluginv1.GenerateResponse) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	return r.send(m)
}

// output passes on what a command writes, and reads its lines.
type output struct {
	run    *run
	stream pluginv1.OutputChunk_Stream
	lines  bool
	line   []byte
	skip   bool // the rest of a line that is too long
}

// maxLine bounds a line that is read for JSON, in bytes.
const maxLine = 4 << 20

// Write implements [io.Writer]. It fails when the host has gone away, which ends
// the command's output.
func (o *output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		piece := rest[:min(len(rest), pieceSize)]
		rest = rest[len(piece):]
		err := o.run.sendOne(&pluginv1.GenerateResponse{Event: &pluginv1.GenerateResponse_Output{
			Output: &pluginv1.OutputChunk{Stream: o.stream, Data: bytes.Clone(piece)},
		}})
		if err != nil {
			return 0, err
		}
	}
	o.remember(p)
	if o.lines {
		o.read(p)
	}
	return len(p), nil
}

// remember keeps the end of the output.
func (o *output) remember(p []byte) {
	r := o.run
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail = append(r.tail, p...)
	if len(r.tail) > tailSize {
		r.tail = bytes.Clone(r.tail[len(r.tail)-tailSize:])
	}
}

// read takes what is in the lines.
func (o *output) read(p []byte) {
	for len(p) > 0 {
		piece, rest, ended := bytes.Cut(p, []byte("\n"))
		p = rest
		if len(o.line)+len(piece) > maxLine {
			o.line, o.skip = nil, true
		}
		if !o.skip {
			o.line = append(o.line, piece...)
		}
		if ended {
			o.flush()
		}
	}
}

// flush reads what there is of a line.
func (o *output) flush() {
	if o.lines && !o.skip && len(o.line) > 0 {
		o.run.readLine(o.line)
	}
	o.line, o.skip = o.line[:0], false
}

var _ io.Writer = (*output)(nil)

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
