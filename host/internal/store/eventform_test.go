package store

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/event"
)

// What is written of an event is read again.
func TestEventForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		e := event.Record{
			Revision: rapid.Int64Min(1).Draw(t, "revision"), At: time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(),
			Kind: text.Draw(t, "kind"), Subject: text.Draw(t, "subject"), Actor: text.Draw(t, "actor"), Outcome: text.Draw(t, "outcome"),
			Reason: text.Draw(t, "reason"), Workspace: text.Draw(t, "workspace"),
		}
		if all := rapid.MapOf(text, text).Draw(t, "attributes"); len(all) > 0 {
			e.Attributes = all
		}
		form := appendEvent(nil, &e)
		got, err := readEvent(e.Revision, form)
		if err != nil || !reflect.DeepEqual(*got, e) {
			t.Fatalf("wrote %+v, read %+v, %v", e, got, err)
		}
		cut := rapid.IntRange(0, len(form)-1).Draw(t, "cut")
		if got, err := readEvent(1, form[:cut]); !errors.Is(err, errEventForm) {
			t.Fatalf("%d of %d bytes are read as %+v, %v", cut, len(form), got, err)
		}
	})
}

func FuzzReadEvent(f *testing.F) {
	f.Add(appendEvent(nil, &event.Record{Kind: "task.done", Attributes: map[string]string{"a": "b"}}))
	f.Add([]byte{eventForm})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, form []byte) {
		e, err := readEvent(7, form)
		if (e == nil) == (err == nil) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// Events that were written by version 15 of the schema are taken over under their
// revisions.
func TestEventFormsTakenOver(t *testing.T) {
	write, open := olderDatabase(t, 15)
	const first, n = 41, migrationPage + 10
	want := make([]*event.Record, n)
	for i := range want {
		e := &event.Record{
			Revision: int64(first + i), At: time.Unix(int64(i), 5).UTC(), Kind: "task.done", Subject: fmt.Sprint("task/", i), Actor: "me", Outcome: "success", Reason: "ü", Workspace: "w",
		}
		attributes := ""
		if i%2 == 0 {
			e.Attributes, attributes = map[string]string{"k": "ü"}, `{"k":"ü"}`
		}
		want[i] = e
		_, err := write.ExecContext(t.Context(), "INSERT INTO events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			e.Revision, e.At.UnixNano(), e.Kind, e.Subject, e.Actor, e.Outcome, e.Reason, e.Workspace, attributes)
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := open().Events().After(t.Context(), 0, 2*n)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d events were taken over as %d, %v", n, len(got), err)
	}
}
