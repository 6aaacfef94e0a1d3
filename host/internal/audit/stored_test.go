package audit

import (
	"bytes"
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// packedRows seals records and packs them.
func packedRows(ctx context.Context, limit int, records ...*Record) []Row {
	p := Packer{Limit: limit}
	var head Head
	for _, r := range records {
		r.Complete(ctx)
		p.Seal(&head, r)
	}
	return p.Rows()
}

// Whatever bytes a store holds as a row: what is read of each record verifies exactly
// if the form of one stands there, the quick way says the same, both find the
// same behind it, and no other bytes are the form of that record.
func FuzzUnpack(f *testing.F) {
	at := time.Unix(5, 9)
	for _, row := range packedRows(f.Context(), 2000,
		&Record{Time: at},
		&Record{Time: at.Add(-time.Hour), Actor: "a", Action: "x.y", Attributes: map[string]string{"k": "v", "l": "", "": "ü"}},
		&Record{Time: at, Actor: "a", Action: "x.z", Attributes: map[string]string{"k": "w", "l": "", "m": "ü"}},
		&Record{Time: at, Actor: "a", Action: "x.z", Resource: "r", Attributes: map[string]string{"k": "w", "l": "", "m": "ü"}, Token: "t"},
		&Record{Time: at, Actor: "a", Action: "x.z", Resource: "r", Token: "t"},
		&Record{Time: at, Actor: "b", Action: "x.z", Resource: "r", Token: "t"},
	) {
		f.Add(int64(row.First), row.Bytes)
		f.Add(int64(row.First), append(bytes.Clone(row.Bytes), 0))
		f.Add(int64(3), row.Bytes)
	}
	f.Fuzz(func(t *testing.T, seq int64, row []byte) {
		var slow, quick Unpacker
		slow.Open(seq, row)
		quick.Open(seq, row)
		for n := uint64(0); slow.More(); n++ {
			before, last := slow.rest, bytes.Clone(slow.last)
			r, d := slow.Record(), quick.Digest()
			if r.Seq != uint64(seq)+n || d.Seq != r.Seq {
				t.Fatalf("numbers %d and %d for %d", r.Seq, d.Seq, uint64(seq)+n)
			}
			if !bytes.Equal(slow.rest, quick.rest) || d.Unread && slow.More() {
				t.Fatalf("%q and %q stand behind it", slow.rest, quick.rest)
			}
			sum := new(hasher).hash(r)
			if d.Unread {
				if sum == r.Hash {
					t.Errorf("%+v verifies", r)
				}
				return
			}
			if d.Sum != sum || d.Said != r.Hash || d.Prev != r.PrevHash {
				t.Errorf("digest %+v of %+v", d, r)
			}
			form := before[:len(before)-len(slow.rest)]
			if bytes.Equal(form, r.AppendStored(nil)) {
				continue
			}
			like, ok := appendLike(nil, last, r.Canonical())
			if !ok || !bytes.Equal(form, append(like, r.Hash[:]...)) {
				t.Fatalf("record %+v is read of %q, and written as %q", r, form, like)
			}
		}
	})
}

// What is packed is read again, from any record on.
func TestPackedIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records, whole := drawLog(t)
		p := Packer{Limit: rapid.IntRange(1, 600).Draw(t, "limit")}
		var head Head
		for _, r := range records {
			r.Complete(t.Context())
			p.Seal(&head, r)
		}
		if head != whole {
			t.Fatalf("the log ends with %+v, and not %+v", head, whole)
		}
		var got []*Record
		for _, row := range p.Rows() {
			if row.First != uint64(len(got)+1) {
				t.Fatalf("a row begins with %d after %d records", row.First, len(got))
			}
			n := 0
			var u Unpacker
			for u.Open(int64(row.First), row.Bytes); u.More(); n++ {
				checkRest(t, u, records[len(got):])
				got = append(got, u.Record())
			}
			if n > 1 && len(row.Bytes) > p.Limit {
				t.Errorf("a row of %d records has %d bytes", n, len(row.Bytes))
			}
		}
		if !slices.EqualFunc(got, records, sameRecord) {
			t.Errorf("read %+v of %+v", got, records)
		}
		p.Clear(0)
		if len(p.Rows()) > 0 {
			t.Error("rows are left")
		}
	})
}

// checkRest reads what stands behind as a row by itself.
func checkRest(t *rapid.T, u Unpacker, want []*Record) {
	var rest Unpacker
	rest.Open(int64(u.seq), u.Rest())
	for i := 0; rest.More(); i++ {
		if got := rest.Record(); !sameRecord(got, want[i]) {
			t.Fatalf("the rest has %+v for %+v", got, want[i])
		}
	}
}

func sameRecord(x, y *Record) bool {
	return x.Hash == y.Hash && x.Time.Equal(y.Time) && bytes.Equal(x.Canonical(), y.Canonical()) && (len(x.Attributes) == 0 || reflect.DeepEqual(x.Attributes, y.Attributes))
}

func TestDigestAllocatesNothing(t *testing.T) {
	var records []*Record
	for range 9 {
		records = append(records, &Record{Actor: "a", Attributes: map[string]string{"a": "1", "b": "2"}})
	}
	row := packedRows(t.Context(), 2000, records...)[0]
	var u Unpacker
	n := testing.AllocsPerRun(100, func() {
		for u.Open(1, row.Bytes); u.More(); {
			if u.Digest().Unread {
				t.Fatal("not read")
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
	if one := len(records[1].AppendStored(nil)); len(row.Bytes) > 9*one/2 {
		t.Errorf("9 records of %d bytes take %d", one, len(row.Bytes))
	}
}
