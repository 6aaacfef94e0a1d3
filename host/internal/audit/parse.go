package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// maxLine bounds a line of an export: more than any record needs.
const maxLine = 1 << 20

// Parse reads an export in JSON Lines. Only the very bytes that an export
// writes are accepted, so that no program can read a line differently than it
// was verified; a line that is anything else is an error and the last.
func Parse(from io.Reader) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		lines := bufio.NewScanner(from)
		lines.Buffer(make([]byte, 0, 64<<10), maxLine)
		lines.Split(wholeLines)
		for n := 1; lines.Scan(); n++ {
			r, err := parseLine(lines.Bytes())
			if err != nil {
				yield(nil, badLine(n, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(nil, badLine(0, err))
		} else if err != nil {
			yield(nil, err)
		}
	}
}

// wholeLines is [bufio.ScanLines] that keeps what stands before the line end.
func wholeLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// LineError is a line of an export that is no record.
type LineError struct {
	Line  int // 0: unknown
	cause error
}

// Error implements error.
func (e *LineError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.cause }

func badLine(n int, cause error) error {
	return &LineError{Line: n, cause: sdk.Errorf(codes.DataLoss, "AUDIT_EXPORT", "line %d of the export is no record as it is exported: %w", n, cause).
		WithRemedy("verify the file as `sop audit export` wrote it; other tools may have changed its form")}
}

func parseLine(line []byte) (*Record, error) {
	var w wire
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, err
	}
	if w.Version != version1 {
		return nil, errors.New("it has a version that this sop does not know")
	}
	if !w.Time.Equal(time.Unix(0, w.Time.UnixNano())) {
		return nil, errors.New("its time is out of range")
	}
	r := &Record{
		Seq: w.Seq, Time: w.Time, Actor: w.Actor, Action: w.Action, Resource: w.Resource, Outcome: w.Outcome, Reason: w.Reason,
		RequestID: w.RequestID, TraceID: w.TraceID, Token: w.Token, Attributes: w.Attributes, PrevHash: w.PrevHash, Hash: w.Hash,
	}
	again, err := appendJSON(make([]byte, 0, len(line)), r)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, line) {
		return nil, errors.New("its form is not canonical")
	}
	return r, nil
}

// VerifyExport is [Verify] of an export in JSON Lines. A line that is no record
// is a fault of the record that should stand there.
func VerifyExport(from io.Reader, checkpoints []string, key note.Verifier) (*Report, error) {
	good := uint64(0)
	var bad *LineError
	counted := func(yield func(*Record, error) bool) {
		for r, err := range Parse(from) {
			if errors.As(err, &bad) {
				return
			}
			good++
			if !yield(r, err) {
				return
			}
		}
	}
	report, err := Verify(counted, checkpoints, key, nil)
	if err == nil && bad != nil && (report.Fault == nil || report.Fault.Kind == Truncated) {
		report.Fault = &Fault{Seq: good + 1, Until: good + 1, Kind: Edited, Detail: bad.Error()}
	}
	return report, err
}
