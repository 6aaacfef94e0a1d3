package audit

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tampering changes a log of n records and says which record is the first that
// is bad.
type tampering struct {
	name string
	do   func(t *rapid.T, records []*Record) (after []*Record, first uint64)
}

func pick(t *rapid.T, records []*Record) int {
	return rapid.IntRange(0, len(records)-1).Draw(t, "record")
}

// fields change each field of a record.
var fields = []func(r *Record){
	func(r *Record) { r.Time = r.Time.Add(1) },
	func(r *Record) { r.Actor += "x" },
	func(r *Record) { r.Action = strings.ToUpper(r.Action) },
	func(r *Record) { r.Resource = "" },
	func(r *Record) { r.Outcome = Denied },
	func(r *Record) { r.Reason += " " },
	func(r *Record) { r.RequestID, r.TraceID = r.RequestID+r.TraceID, "" },
	func(r *Record) { r.Token = "k" + r.Token },
	func(r *Record) { r.Attributes = map[string]string{"a": "other"} },
	func(r *Record) { r.PrevHash[3]++ },
	func(r *Record) { r.Hash[31]++ },
}

var tamperings = []tampering{
	{"edit", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		i := pick(t, records)
		fields[rapid.IntRange(0, len(fields)-1).Draw(t, "field")](records[i])
		return records, uint64(i + 1)
	}},
	{"edit and hash again", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		i := pick(t, records)
		fields[rapid.IntRange(0, len(fields)-2).Draw(t, "field")](records[i])
		records[i].Hash = new(hasher).hash(records[i])
		return records, uint64(i + 1)
	}},
	{"remove", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		i := pick(t, records)
		return slices.Delete(records, i, i+1), uint64(i + 1)
	}},
	{"swap", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		if len(records) < 2 {
			return records[:0], 1
		}
		i := rapid.IntRange(0, len(records)-2).Draw(t, "record")
		j := rapid.IntRange(i+1, len(records)-1).Draw(t, "other")
		records[i], records[j] = records[j], records[i]
		return records, uint64(i + 1)
	}},
	{"swap with numbers", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		if len(records) < 2 {
			return records[:0], 1
		}
		i := rapid.IntRange(0, len(records)-2).Draw(t, "record")
		j := rapid.IntRange(i+1, len(records)-1).Draw(t, "other")
		records[i], records[j] = records[j], records[i]
		records[i].Seq, records[j].Seq = records[j].Seq, records[i].Seq
		return records, uint64(i + 1)
	}},
	{"cut", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		i := pick(t, records)
		return records[:i], uint64(i + 1)
	}},
	{"repeat", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		i := pick(t, records)
		return slices.Insert(records, i, records[i]), uint64(i + 2)
	}},
	{"append", func(t *rapid.T, records []*Record) ([]*Record, uint64) {
		extra := *records[len(records)-1]
		extra.Seq, extra.PrevHash = extra.Seq+1, extra.Hash
		extra.Hash = new(hasher).hash(&extra)
		return append(records, &extra), uint64(len(records) + 1)
	}},
}

func drawLog(t *rapid.T) ([]*Record, Head) {
	text := rapid.StringN(0, 8, 32)
	return chain(rapid.IntRange(1, 40).Draw(t, "length"), func(i int, r *Record) {
		*r = Record{
			Time: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 0), Actor: text.Draw(t, "actor"), Action: "a" + text.Draw(t, "action"),
			Resource: "r" + text.Draw(t, "resource"), Outcome: rapid.SampledFrom([]Outcome{Success, Failure}).Draw(t, "outcome"),
			Reason: text.Draw(t, "reason"), RequestID: text.Draw(t, "request"), TraceID: "t" + text.Draw(t, "trace"),
		}
		if i%3 == 0 {
			r.Attributes = map[string]string{"a": text.Draw(t, "attribute")}
		}
	})
}

func clones(records []*Record) []*Record {
	out := make([]*Record, len(records))
	for i, r := range records {
		c := *r
		c.Attributes = maps.Clone(r.Attributes)
		out[i] = &c
	}
	return out
}

// Whatever is done to a log, it is found, and the first bad record is named.
func TestTamperingIsFound(t *testing.T) {
	_, verifier := testKey(t)
	for _, tt := range tamperings {
		t.Run(tt.name, rapid.MakeCheck(func(t *rapid.T) {
			records, head := drawLog(t)
			if report, err := Verify(all(records), nil, verifier, &head); err != nil || report.Fault != nil || report.Records != head.Size {
				t.Fatalf("a good log: %+v, %v", report, err)
			}
			after, first := tt.do(t, clones(records))
			report, err := Verify(all(after), nil, verifier, &head)
			if err != nil || report.Fault == nil || report.Fault.Seq != first {
				t.Fatalf("the first bad record is %d; found %+v, %v", first, report.Fault, err)
			}
		}))
	}
}

// A log that was rewritten from some record to its end is whole in itself; what
// was signed before is not in it.
func TestRewriteIsFoundByCheckpoints(t *testing.T) {
	key, verifier := testKey(t)
	rapid.Check(t, func(t *rapid.T) {
		records, _ := drawLog(t)
		var notes []string
		var sizes []uint64
		var head Head
		for i, r := range records {
			head.add(r.Hash)
			if i == len(records)-1 || rapid.Bool().Draw(t, "sign") {
				c, err := Sign(&head, time.Unix(0, 0), key)
				if err != nil {
					t.Fatal(err)
				}
				notes, sizes = append(notes, c.Note), append(sizes, c.Size)
			}
		}
		i := pick(t, records)
		after, again := rewrite(records, i)
		report, err := Verify(all(after), rapid.Permutation(notes).Draw(t, "notes"), verifier, &again)
		if err != nil || report.Fault == nil || report.Fault.Kind != Rewritten {
			t.Fatalf("not found: %+v, %v", report.Fault, err)
		}
		bad := uint64(i + 1)
		last := slices.IndexFunc(sizes, func(size uint64) bool { return size >= bad })
		before := uint64(0)
		if last > 0 {
			before = sizes[last-1]
		}
		if f := report.Fault; f.Seq != before+1 || f.Until != sizes[last] || f.Seq > bad || f.Until < bad || report.Signed != before {
			t.Fatalf("record %d was rewritten, between checkpoints of %d and %d; found %+v", bad, before, sizes[last], f)
		}
	})
}

// rewrite changes a record and makes a whole log of it again.
func rewrite(records []*Record, i int) ([]*Record, Head) {
	after := clones(records)
	after[i].Actor += "x"
	var head Head
	for _, r := range after {
		r.PrevHash = head.Last
		r.Hash = new(hasher).hash(r)
		head.add(r.Hash)
	}
	return after, head
}

// A cut tail and a foreign checkpoint, as one has them offline: no head.
func TestOfflineTruncation(t *testing.T) {
	key, verifier := testKey(t)
	records, head := chain(20, nil)
	c, err := Sign(&head, time.Now(), key)
	if err != nil {
		t.Fatal(err)
	}
	foreignKey, _ := testKey(t)
	foreign, err := Sign(&head, time.Now(), foreignKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		note string
		n    int
		kind FaultKind
		seq  uint64
	}{{c.Note, 20, "", 0}, {c.Note, 17, Truncated, 18}, {c.Note, 0, Truncated, 1}, {foreign.Note, 20, Unverified, 0}} {
		report, err := Verify(all(records[:tt.n]), []string{tt.note}, verifier, nil)
		if err != nil {
			t.Fatal(err)
		}
		if f := report.Fault; (f == nil) != (tt.kind == "") || f != nil && (f.Kind != tt.kind || f.Seq != tt.seq) {
			t.Errorf("%d records: %+v, want %s at %d", tt.n, f, tt.kind, tt.seq)
		}
	}
	if _, err := Verify(func(yield func(*Record, error) bool) { yield(nil, errors.New("disk")) }, nil, verifier, nil); err == nil {
		t.Error("an error of reading was swallowed")
	}
}

// Any change of any byte of an export is found, at its line.
func TestEditedExport(t *testing.T) {
	key, verifier := testKey(t)
	records, head := chain(10, nil)
	var out bytes.Buffer
	for _, r := range records {
		if err := JSONL.Write(&out, r); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Sign(&head, time.Now(), key)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := VerifyExport(bytes.NewReader(out.Bytes()), []string{c.Note}, verifier); err != nil || report.Fault != nil {
		t.Fatalf("a good export: %+v, %v", report, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		edited := bytes.Clone(out.Bytes())
		i := rapid.IntRange(0, len(edited)-1).Draw(t, "byte")
		edited[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		line := uint64(bytes.Count(out.Bytes()[:i], []byte{'\n'}) + 1)
		report, err := VerifyExport(bytes.NewReader(edited), []string{c.Note}, verifier)
		if err != nil || report.Fault == nil || report.Fault.Seq != line {
			t.Fatalf("byte %d of line %d: %+v, %v", i, line, report.Fault, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	records, _ := chain(2, func(i int, r *Record) { r.Attributes = map[string]string{"k": fmt.Sprint(i)} })
	var out bytes.Buffer
	for _, r := range records {
		if err := JSONL.Write(&out, r); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(out.Bytes())
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"v":1,"seq":1,"time":"0001-01-01T00:00:00Z","actor":"","action":"","outcome":"","prev_hash":"","hash":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		for r, err := range Parse(bytes.NewReader(data)) {
			if err != nil {
				return
			}
			if err := errors.Join(JSONL.Write(&again, r), CEF.Write(&bytes.Buffer{}, r)); err != nil {
				t.Fatal(err)
			}
		}
		if strings.TrimSuffix(again.String(), "\n") != strings.TrimSuffix(string(data), "\n") {
			t.Errorf("%q was read as %q", data, again.String())
		}
	})
}
