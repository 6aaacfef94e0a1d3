package nexus

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/audit"
)

// Whoever is let look is on record: the first time as such, and how often after
// that.
func TestLooksAreCounted(t *testing.T) {
	var got []audit.Record
	looks := NewLooks(func(r audit.Record) { got = append(got, r) })
	n := &Nexus{Looks: looks, Logger: hclog.NewNullLogger()}
	look := func(uid uint32, permission string) {
		t.Helper()
		ctx := audit.WithOrigin(WithCaller(t.Context(), PeerCaller(uid, 7)), audit.Origin{RequestID: "r"})
		if err := n.Authorize(ctx, permission); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want ...string) {
		t.Helper()
		var all []string
		for _, r := range got {
			text := fmt.Sprint(r.Actor, " ", r.Action, " ", r.Outcome, " ", r.RequestID, " ", r.Attributes["policy"] != "", " ", r.Attributes["pid"], " ", r.Attributes["times"])
			if _, err := time.Parse(time.RFC3339Nano, r.Attributes["since"]); (err == nil) != (r.Attributes["times"] != "") {
				t.Errorf("%s: since %q", text, r.Attributes["since"])
			}
			all = append(all, text)
		}
		slices.Sort(all)
		if !slices.Equal(all, want) {
			t.Errorf("got %q, want %q", all, want)
		}
		got = nil
	}
	for range 3 {
		look(0, "gap.read")
	}
	look(0, "host.status")
	look(54321, "host.status")
	want("uid:0 access.gap.read success r true 7 ", "uid:0 access.host.status success r true 7 ", "uid:54321 access.host.status success r true 7 ")
	looks.Flush()
	want("uid:0 access.gap.read success  true  2")
	look(0, "gap.read")
	looks.Flush() // forgets what only came once
	want("uid:0 access.gap.read success  true  1")
	looks.Flush()
	want()
	look(0, "gap.read")
	look(54321, "host.status")
	want("uid:0 access.gap.read success r true 7 ", "uid:54321 access.host.status success r true 7 ")
}

// However many look, little is remembered and everything is on record.
func TestLooksAreBounded(t *testing.T) {
	records := 0
	looks := NewLooks(func(r audit.Record) {
		n := 1
		if times := r.Attributes["times"]; times != "" {
			if _, err := fmt.Sscan(times, &n); err != nil {
				t.Error(err)
			}
		}
		records += n
	})
	n := &Nexus{Looks: looks, Logger: hclog.NewNullLogger()}
	const callers = maxLooks + 10
	for i := range uint32(callers) {
		for range 2 {
			if err := n.Authorize(WithCaller(t.Context(), PeerCaller(i+1, 7)), "host.status"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(looks.seen) != 10 {
		t.Errorf("%d are remembered", len(looks.seen))
	}
	if looks.Flush(); records != 2*callers {
		t.Errorf("%d of %d looks are on record", records, 2*callers)
	}
}
