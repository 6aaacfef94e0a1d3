package store

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/token"
)

// What is written of changes is read again, whoever else's they stand among.
func TestHistoryForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		of := map[string]*token.Token{"a": {ID: "a", Accessor: "A"}, "b": {ID: "b", Accessor: "B"}}
		var all []token.Change
		want, got := make(map[string][]token.Change), make(map[string][]token.Change)
		for range rapid.IntRange(1, 9).Draw(t, "changes") {
			owner := of[rapid.SampledFrom([]string{"a", "b"}).Draw(t, "token")]
			c := token.Change{
				TokenID: owner.ID, Accessor: owner.Accessor, At: time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(), Action: token.Action(text.Draw(t, "action")),
				From: token.State(text.Draw(t, "from")), To: token.State(text.Draw(t, "to")), By: text.Draw(t, "by"), Why: text.Draw(t, "why"),
			}
			all, want[owner.ID] = append(all, c), append(want[owner.ID], c)
		}
		for _, some := range byToken(all) {
			owner := of[some[0].TokenID]
			form := appendChanges(nil, some)
			read, err := readChanges(owner, form)
			if err != nil {
				t.Fatal(err)
			}
			got[owner.ID] = append(got[owner.ID], read...)
			if cut := rapid.IntRange(2, len(form)-1).Draw(t, "cut"); len(some) == 1 {
				if read, err := readChanges(owner, form[:cut]); !errors.Is(err, errHistoryForm) {
					t.Fatalf("%d of %d bytes are read as %+v, %v", cut, len(form), read, err)
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("wrote %+v, read %+v", want, got)
		}
	})
}

func FuzzReadChanges(f *testing.F) {
	f.Add(appendChanges(nil, []token.Change{{Action: token.Issued, To: token.StatePending, By: "me"}}))
	f.Add([]byte{historyForm})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, form []byte) {
		changes, err := readChanges(&token.Token{ID: "t"}, form)
		if err != nil && changes != nil {
			t.Errorf("%+v, %v", changes, err)
		}
	})
}

// Histories that were written by version 16 of the schema are taken over.
func TestHistoryFormsTakenOver(t *testing.T) {
	write, open := olderDatabase(t, 16)
	const tokens, each = 3, migrationPage/2 + 10
	want := make([]token.Change, each)
	for i := range want {
		want[i] = token.Change{At: time.Unix(int64(i), 5).UTC(), Action: token.Renewed, From: token.StateActive, To: token.StateActive, By: "me", Why: fmt.Sprint(i)}
	}
	for n := range tokens {
		id := fmt.Sprintf("00000000-0000-7000-8000-%012d", n)
		_, err := write.ExecContext(t.Context(), "INSERT INTO tokens VALUES ($1, $2, x'00', 'todo', 'active', '', '', '', '', '', '', '', '', '', 0, 0, 0, 1, 1, 0, NULL, 1, 0, 0, 1)",
			id, fmt.Sprintf("accessor%08d", n))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range want {
			_, err := write.ExecContext(t.Context(), "INSERT INTO token_history (token_id, action, at, from_state, to_state, by_whom, why) VALUES ($1, $2, $3, $4, $5, $6, $7)",
				id, string(c.Action), c.At.UnixNano(), string(c.From), string(c.To), c.By, c.Why)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	db := open()
	for n := range tokens {
		got, err := db.Tokens().Get(t.Context(), fmt.Sprintf("accessor%08d", n))
		if err != nil || len(got.History) != each {
			t.Fatalf("token %d: %d changes, %v", n, len(got.History), err)
		}
		for i, c := range want {
			c.TokenID, c.Accessor = got.ID, got.Accessor
			if got.History[i] != c {
				t.Fatalf("token %d, change %d is %+v, want %+v", n, i, got.History[i], c)
			}
		}
	}
}
