package audit

import (
	"encoding/json"
	"testing"
	"time"
)

// A digest is the hash of the record, or it is unread; attributes are what JSON
// says they are.
func FuzzDigest(f *testing.F) {
	f.Add(int64(1), "a", "r", []byte(`{"a":"1","b":"2"}`))
	f.Add(int64(-1), "", "ü", []byte(`{"a":"<\"","a":""}`))
	f.Add(int64(7), "x", "", []byte(`{"b":"","a":","}`))
	f.Fuzz(func(t *testing.T, seq int64, actor, reason string, attributes []byte) {
		r := Record{Seq: uint64(seq), Time: fromZero, Actor: actor, Reason: reason}
		row := Row{Seq: seq, Attributes: attributes, Prev: r.PrevHash[:], Hash: r.Hash[:]}
		row.Text[0], row.Text[4] = []byte(actor), []byte(reason)
		var known bool
		if len(attributes) == 0 {
			known = true
		} else {
			known = json.Unmarshal(attributes, &r.Attributes) == nil
		}
		got := new(Digester).Digest(&row)
		if got.Unread == known {
			t.Fatalf("%q: unread %v", attributes, got.Unread)
		}
		if known && got.Sum != new(hasher).hash(&r) {
			t.Errorf("%q is hashed as another record", attributes)
		}
	})
}

var fromZero = time.Unix(0, 0)
