package audit

import (
	"bytes"
	"testing"
	"time"
)

// Whatever bytes a store holds: what is read of them verifies exactly if the
// stored form of a record stands first, the quick way says the same, and both find
// the same behind it.
func FuzzStored(f *testing.F) {
	var together []byte
	for _, r := range []Record{
		{Seq: 6, Time: time.Unix(0, 0)},
		{Seq: 7, Time: time.Unix(5, 9), Actor: "a", Action: "x.y", Outcome: Success, Attributes: map[string]string{"k": "v", "l": "", "": "ü"}},
	} {
		r.Hash = new(hasher).hash(&r)
		f.Add(int64(r.Seq), r.AppendStored(nil))
		f.Add(int64(3), r.AppendStored(nil))
		f.Add(int64(r.Seq), r.AppendStored([]byte{0}))
		together = r.AppendStored(together)
		f.Add(int64(6), append(bytes.Clone(together), 0))
	}
	f.Fuzz(func(t *testing.T, seq int64, stored []byte) {
		r, behind := ReadStored(seq, stored)
		d, quick := DigestStored(seq, stored)
		if r.Seq != uint64(seq) || d.Seq != uint64(seq) {
			t.Fatalf("numbers %d and %d for %d", r.Seq, d.Seq, seq)
		}
		if !bytes.Equal(behind, quick) || d.Unread && len(behind) > 0 {
			t.Fatalf("%q and %q stand behind it", behind, quick)
		}
		sum := new(hasher).hash(r)
		if same := bytes.Equal(append(r.AppendStored(nil), behind...), stored); same == d.Unread {
			t.Fatalf("stored form of a record: %v; unread: %v", same, d.Unread)
		}
		if !d.Unread && (d.Sum != sum || d.Said != r.Hash || d.Prev != r.PrevHash) {
			t.Errorf("digest %+v of %+v", d, r)
		}
		if d.Unread && sum == r.Hash {
			t.Errorf("%+v verifies", r)
		}
	})
}

func TestStoredAllocatesNothing(t *testing.T) {
	r := Record{Seq: 1, Actor: "a", Attributes: map[string]string{"a": "1", "b": "2"}}
	stored := r.AppendStored(nil)
	if n := testing.AllocsPerRun(100, func() { DigestStored(1, stored) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
