package generate

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// An Outcome is what came of a run. The zero Outcome is that it was refused.
type Outcome string

// Outcomes. Only a run that Changed has something to propose.
const (
	Refused      Outcome = "" // nothing was run
	Changed      Outcome = "changed"
	NothingToDo  Outcome = "nothing_to_do"
	NeedsPerson  Outcome = "needs_person"
	BudgetSpent  Outcome = "budget_spent"
	BadTask      Outcome = "bad_task"
	Rejected     Outcome = "rejected" // it changed what it may not
	Crashed      Outcome = "crashed"
	OutOfMemory  Outcome = "out_of_memory"
	TooMuchOut   Outcome = "output_limit"
	TimedOut     Outcome = "timeout"
	Canceled     Outcome = "canceled"
	refusedLabel         = "refused"
)

// String implements fmt.Stringer.
func (o Outcome) String() string {
	if o == Refused {
		return refusedLabel
	}
	return string(o)
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Outcome) UnmarshalText(text []byte) error {
	if *o = Outcome(text); *o == refusedLabel {
		*o = Refused
	}
	return nil
}

// Exit codes of the generator contract; those of the host are
// sandbox.ExitOutOfMemory and its neighbours.
const (
	CodeChanged     = 0
	CodeCrashed     = 1 // and every other
	CodeNothingToDo = 10
	CodeNeedsPerson = 11
	CodeBudgetSpent = 20
	CodeBadTask     = 30
	CodeCanceled    = 130
)

// outcomeOf says what an exit code of a generator means.
func outcomeOf(code int) Outcome {
	switch code {
	case CodeChanged:
		return Changed
	case CodeNothingToDo:
		return NothingToDo
	case CodeNeedsPerson:
		return NeedsPerson
	case CodeBudgetSpent:
		return BudgetSpent
	case CodeBadTask:
		return BadTask
	case sandbox.ExitOutOfMemory:
		return OutOfMemory
	case sandbox.ExitOutput:
		return TooMuchOut
	case sandbox.ExitTimeout:
		return TimedOut
	}
	return Crashed
}

// A Run is one run that is over. It must be closed.
type Run struct {
	ID      string  `json:"run_id"`
	TaskID  string  `json:"task_id"`
	Plugin  string  `json:"plugin"`
	Outcome Outcome `json:"outcome"`
	Code    int     `json:"code"` // the generator's, or the one that the host assigns
	// Claims of the plugin, for the reviewer.
	Explanation string            `json:"explanation,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
	// Err says why there was no result; nil where there was.
	Err *sdk.Error `json:"error,omitempty"`

	// Changes are against the workspace as it is; nil where none can be trusted.
	Changes *sandbox.ChangeSet `json:"changes,omitempty"`
	// Evidence is what the host has seen of the run. Its Stdout and Stderr are
	// the plugin's own; what the generator printed is Output.
	Evidence sandbox.Result `json:"evidence"`
	Output   Output         `json:"output"`
	Events   []Event        `json:"events,omitempty"` // the last that were reported
	Started  time.Time      `json:"started"`
	Ended    time.Time      `json:"ended"`

	outcome *sandbox.Outcome // nil where nothing was run
}

// Output is the beginning of what a generator printed.
type Output struct {
	Stdout sandbox.Output `json:"stdout"`
	Stderr sandbox.Output `json:"stderr"`
}

// Content opens the new content of an added or modified file. It serves until
// Close.
func (r *Run) Content(c sandbox.Change) (io.ReadCloser, error) {
	if r.outcome == nil {
		return nil, errors.New("the run has left nothing behind")
	}
	return r.outcome.Content(c)
}

// Diff is the change set for people, at most limit bytes.
func (r *Run) Diff(limit int) (string, error) {
	if r.outcome == nil || r.Changes == nil {
		return "", nil
	}
	return r.outcome.Diff(r.Changes, limit)
}

// Export writes the run to a directory that exists and is empty.
func (r *Run) Export(dir string) error {
	if r.outcome == nil || r.Changes == nil {
		return errors.New("the run has left nothing behind")
	}
	return r.outcome.Export(dir, r.Changes)
}

// Close gives up what the run has left behind. It may be called twice.
func (r *Run) Close() error {
	if r.outcome == nil {
		return nil
	}
	err := r.outcome.Close()
	r.outcome = nil
	return err
}

// keep holds the beginning of a stream.
type keep struct {
	limit int64
	text  []byte
	total int64
}

// add says whether the stream is within its limit.
func (k *keep) add(data []byte) bool {
	k.total += int64(len(data))
	k.text = append(k.text, data[:min(int64(len(data)), k.limit-int64(len(k.text)))]...)
	return k.total <= k.limit
}

func (k *keep) output() sandbox.Output {
	return sandbox.Output{Text: strings.ToValidUTF8(string(k.text), "�"), Bytes: k.total, Truncated: k.total > int64(len(k.text))}
}
