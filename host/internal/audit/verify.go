package audit

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// Report is what a verification found.
type Report struct {
	Records     uint64 // that were read and are good
	Checkpoints int    // that agree
	// Signed is the size of the largest checkpoint that agrees: what comes after
	// it is protected by the chain alone.
	Signed uint64
	// Archived is the last record that was read from an archive.
	Archived uint64
	Head     Head
	Fault    *Fault // nil: nothing is wrong
}

// Fault is the first thing that is wrong.
type Fault struct {
	// Seq is the first bad record. Where only a checkpoint shows that something
	// was rewritten, it is the first that may be bad, and Until the last.
	Seq, Until uint64
	Kind       FaultKind
	Detail     string
}

// FaultKind says what is wrong.
type FaultKind string

// The kinds of faults.
const (
	Edited     FaultKind = "edited"     // a record is not what was written
	Missing    FaultKind = "missing"    // a record is not there, or elsewhere
	Truncated  FaultKind = "truncated"  // the end is not there
	Rewritten  FaultKind = "rewritten"  // the chain is whole, and not the one that was signed
	Unverified FaultKind = "unverified" // a checkpoint cannot be trusted
)

// Verify reads a whole log and compares it with checkpoints, in any order, that
// key has signed. known, when it is not nil, is what the log should end with.
// The error is that of reading; what is wrong with the log is in the report.
func Verify(records iter.Seq2[*Record, error], checkpoints []string, key note.Verifier, known *Head) (*Report, error) {
	v := &verifier{known: known}
	if !v.open(checkpoints, key) {
		return &v.report, nil
	}
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		if !v.record(r) {
			return &v.report, nil
		}
	}
	if v.strange == nil {
		v.end()
	} else {
		v.blame(nil)
	}
	return &v.report, nil
}

// verifier is a verification under way.
type verifier struct {
	report  Report
	head    Head
	hasher  hasher
	signed  []*Checkpoint // still to come, smallest first
	covered uint64        // size of the last one that agreed
	known   *Head
	strange *Record // is what it says it is, but does not follow the one before
}

func (v *verifier) fault(seq, until uint64, kind FaultKind, format string, args ...any) bool {
	v.report.Fault = &Fault{Seq: seq, Until: max(seq, until), Kind: kind, Detail: fmt.Sprintf(format, args...)}
	v.report.Head = v.head
	return false
}

func (v *verifier) open(checkpoints []string, key note.Verifier) bool {
	for _, signed := range checkpoints {
		c, err := OpenCheckpoint(signed, key)
		if err != nil {
			return v.fault(0, 0, Unverified, "%v", err)
		}
		v.signed = append(v.signed, c)
	}
	slices.SortFunc(v.signed, func(x, y *Checkpoint) int { return cmp.Compare(x.Size, y.Size) })
	return v.compare()
}

// record takes the next record and reports whether all is well so far.
func (v *verifier) record(r *Record) bool {
	if v.strange != nil {
		return v.blame(r)
	}
	want := v.head.Size + 1
	if r.Seq != want {
		return v.fault(want, want, Missing, "record %d stands in the place of record %d", r.Seq, want)
	}
	hash := v.hasher.hash(r)
	switch {
	case hash != r.Hash, want == 1 && r.PrevHash != Hash{}:
		return v.fault(want, want, Edited, "record %d is not what was written: it hashes to %s and says %s", want, hash, r.Hash)
	case r.PrevHash != v.head.Last:
		v.strange = r
		return true // the next one decides
	}
	v.head.add(hash)
	v.report.Records = want
	return v.compare()
}

// blame decides which of two records that do not fit was changed: the one that
// the next record, or the known end, does not speak for.
func (v *verifier) blame(next *Record) bool {
	s := v.strange
	var sure, good bool
	switch {
	case next != nil && next.Seq == s.Seq+1:
		sure, good = true, next.PrevHash == s.Hash
	case next == nil && v.known != nil && v.known.Size == s.Seq:
		sure, good = true, v.known.Last == s.Hash
	}
	switch {
	case !sure:
		return v.fault(s.Seq-1, s.Seq, Edited, "record %d or %d was replaced: the one does not follow the other", s.Seq-1, s.Seq)
	case good:
		return v.fault(s.Seq-1, 0, Edited, "record %d was replaced: record %d follows %s", s.Seq-1, s.Seq, s.PrevHash)
	}
	return v.fault(s.Seq, 0, Edited, "record %d was replaced: it does not follow record %d", s.Seq, s.Seq-1)
}

// compare checks the checkpoints of the size that has been reached.
func (v *verifier) compare() bool {
	for len(v.signed) > 0 && v.signed[0].Size == v.head.Size {
		c := v.signed[0]
		if root := v.head.Root(); c.Root != root {
			return v.fault(v.covered+1, c.Size, Rewritten, "records %d to %d are not those that were signed at %s%s",
				v.covered+1, c.Size, c.Time.Format("2006-01-02 15:04:05 MST"), c.source())
		}
		v.covered, v.signed = c.Size, v.signed[1:]
		v.report.Checkpoints++
		v.report.Signed = c.Size
	}
	return true
}

// end checks that nothing is missing at the end.
func (v *verifier) end() {
	size := v.head.Size
	v.report.Head = v.head
	switch {
	case len(v.signed) > 0:
		last := v.signed[len(v.signed)-1]
		v.fault(size+1, last.Size, Truncated, "the log ends after record %d and had %d when it was signed%s", size, last.Size, last.source())
	case v.known == nil:
	case v.known.Size > size:
		v.fault(size+1, v.known.Size, Truncated, "the log ends after record %d and had %d", size, v.known.Size)
	case v.known.Size < size:
		v.fault(v.known.Size+1, size, Edited, "the log has %d records more than were appended to it", size-v.known.Size)
	case v.known.Last != v.head.Last:
		v.fault(max(size, 1), 0, Edited, "record %d was replaced", size)
	case v.known.Root() != v.head.Root():
		v.fault(v.covered+1, size, Rewritten, "the tree over the records is not the one that was kept")
	}
}
