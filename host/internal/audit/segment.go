package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Segment is a part of the log that was moved to a file: records First to Last
// and the signed checkpoint of the log as it was after Last.
type Segment struct {
	First, Last uint64
	File        string // its name in the directory of archives
	Bytes       int64  // of the file
	Sum         Hash   // of the file
	End         Head   // of the log after Last
	Note        string // the checkpoint of End
	From, Until time.Time
	At          time.Time // when it was archived
}

// The file of a segment is gzip of lines, each a JSON object: what begins it
// (segmentHead), its records as they are exported, and what ends it
// (segmentTail). With the public key it can be verified by itself: the edge of
// the tree before it and its records make the root that the checkpoint signs.
type segmentHead struct {
	Version int    `json:"sop_audit_segment"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Prev    Hash   `json:"prev_hash"`
	Edge    []Hash `json:"edge"`
}

type segmentTail struct {
	Checkpoint string `json:"checkpoint"`
}

const segmentVersion = 1

// segmentName is unique for a range, and sorts as the log does.
func segmentName(first, last uint64) string {
	return fmt.Sprintf("audit-%012d-%012d.jsonl.gz", first, last)
}

// segmentWriter writes the lines of a segment.
type segmentWriter struct {
	zip *gzip.Writer
	buf *bufio.Writer
}

func newSegmentWriter(to io.Writer, before *Head, last uint64) (*segmentWriter, error) {
	zip := gzip.NewWriter(to)
	w := &segmentWriter{zip, bufio.NewWriterSize(zip, 64<<10)}
	head := segmentHead{segmentVersion, before.Size + 1, last, before.Last, []Hash{}}
	edge := before.Edge()
	for len(edge) > 0 {
		head.Edge = append(head.Edge, Hash(edge[:len(Hash{})]))
		edge = edge[len(Hash{}):]
	}
	return w, w.line(head)
}

func (w *segmentWriter) line(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.buf.Write(append(line, '\n'))
	return err
}

// finish writes what ends the segment.
func (w *segmentWriter) finish(checkpoint string) error {
	return errors.Join(w.line(segmentTail{checkpoint}), w.buf.Flush(), w.zip.Close())
}

// segmentReader reads a segment, of which nothing is believed.
type segmentReader struct {
	lines  *bufio.Scanner
	before Head
	last   uint64
	note   string // once next has returned io.EOF
}

var errSegment = errors.New("it is no archived segment of an audit log")

func newSegmentReader(from io.Reader) (*segmentReader, error) {
	zip, err := gzip.NewReader(bufio.NewReader(from))
	if err != nil {
		return nil, errors.Join(errSegment, err)
	}
	zip.Multistream(false)
	s := &segmentReader{lines: bufio.NewScanner(zip)}
	s.lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	s.lines.Split(wholeLines)
	var head segmentHead
	if err := s.decode(&head); err != nil {
		return nil, err
	}
	if head.Version != segmentVersion || head.First == 0 || head.Last < head.First || len(head.Edge) != bits.OnesCount64(head.First-1) {
		return nil, errSegment
	}
	var edge []byte
	for _, h := range head.Edge {
		edge = append(edge, h[:]...)
	}
	s.last = head.Last
	s.before, err = HeadOf(head.First-1, head.Prev[:], edge)
	return s, err
}

// decode reads a line that is no record.
func (s *segmentReader) decode(v any) error {
	if !s.lines.Scan() {
		return errors.Join(errSegment, s.lines.Err())
	}
	dec := json.NewDecoder(bytes.NewReader(s.lines.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.Join(errSegment, err)
	}
	return nil
}

// next returns the next record, or io.EOF when the last has been read and what
// follows is the end of the segment and nothing else.
func (s *segmentReader) next(n uint64) (*Record, error) {
	if s.before.Size+n > s.last {
		return nil, s.end()
	}
	if !s.lines.Scan() {
		return nil, errors.Join(errors.New("the file ends before it"), s.lines.Err())
	}
	return parseLine(s.lines.Bytes())
}

func (s *segmentReader) end() error {
	var tail segmentTail
	if err := s.decode(&tail); err != nil {
		return fmt.Errorf("the checkpoint at its end: %w", err)
	}
	if s.lines.Scan() {
		return errors.New("something follows its end")
	}
	if err := s.lines.Err(); err != nil {
		return err
	}
	s.note = tail.Checkpoint
	return io.EOF
}

// VerifySegment verifies the file of one segment by itself, and what it holds
// against its checkpoint. The error is that of reading.
func VerifySegment(from io.Reader, checkpoints []string, key note.Verifier) (*Report, error) {
	s, err := newSegmentReader(from)
	if err != nil {
		return &Report{Fault: &Fault{Kind: Edited, Detail: err.Error()}}, nil //nolint:nilerr // it is what was found
	}
	v := &verifier{head: s.before}
	if !v.open(checkpoints, key) {
		return &v.report, nil
	}
	v.skip()
	if v.segment(s, key, "the archive") {
		v.end()
	}
	v.report.Records = v.head.Size - s.before.Size
	return &v.report, nil
}

// segment verifies the records of a segment and its checkpoint, and reports
// whether all is well so far.
func (v *verifier) segment(s *segmentReader, key note.Verifier, name string) bool {
	for n := uint64(1); ; n++ {
		r, err := s.next(n)
		if errors.Is(err, io.EOF) && r == nil && s.note != "" {
			break
		}
		seq := s.before.Size + n
		if err != nil {
			return v.fault(seq, s.last, Edited, "%s cannot be read at record %d: %v", name, seq, err)
		}
		if !v.record(r) {
			v.report.Fault.Detail = name + ": " + v.report.Fault.Detail
			return false
		}
	}
	if v.strange != nil {
		return true // the next record says which one is bad
	}
	c, err := OpenCheckpoint(s.note, key)
	if err != nil {
		return v.fault(s.before.Size+1, s.last, Unverified, "%s: %v", name, err)
	}
	if c.Size != v.head.Size || c.Root != v.head.Root() {
		return v.fault(s.before.Size+1, s.last, Rewritten, "%s does not hold the records that its checkpoint was signed for", name)
	}
	return true
}

// skip leaves out the checkpoints of what comes before that which is verified.
func (v *verifier) skip() {
	for len(v.signed) > 0 && v.signed[0].Size < v.head.Size {
		v.signed = v.signed[1:]
	}
	v.covered = v.head.Size
}
