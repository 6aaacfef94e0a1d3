package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/answer"
)

// RunAnswers runs the suite of answer stores. open returns an empty store, and
// closes it when t ends.
func RunAnswers(t *testing.T, open func(t *testing.T) answer.Store) {
	s, ctx := open(t), t.Context()
	row := answer.Row{ID: []byte("one"), Request: []byte{0, 1}, At: epoch}
	reserve := func(row answer.Row, before time.Time, full bool) (*answer.Row, answer.Usage) {
		t.Helper()
		earlier, gone, err := s.Reserve(ctx, row, before, full)
		if err != nil {
			t.Fatal(err)
		}
		return earlier, gone
	}
	usage := func(want answer.Usage) {
		t.Helper()
		if got, err := s.Usage(ctx); err != nil || got != want {
			t.Errorf("usage %+v, %v, want %+v", got, err, want)
		}
	}
	long := epoch.Add(-time.Hour)
	if earlier, _ := reserve(row, long, false); earlier != nil {
		t.Errorf("an empty store has %+v", earlier)
	}
	if earlier, _ := reserve(row, long, false); earlier == nil || earlier.Sealed != nil || !bytes.Equal(earlier.Request, row.Request) || !earlier.At.Equal(epoch) {
		t.Errorf("reserved: %+v", earlier)
	}
	if err := s.Answer(ctx, row.ID, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if earlier, _ := reserve(row, long, true); earlier == nil || string(earlier.Sealed) != "sealed" {
		t.Errorf("answered: %+v", earlier)
	}
	usage(answer.Usage{Rows: 1, Bytes: 6})
	two := answer.Row{ID: []byte("two"), Request: []byte{2}, At: epoch.Add(time.Minute)}
	if earlier, _ := reserve(two, long, true); earlier != nil {
		t.Errorf("full, and %+v", earlier)
	}
	usage(answer.Usage{Rows: 1, Bytes: 6})
	reserve(two, long, false)
	// The first is forgotten when its time has come, and its id is free.
	again := answer.Row{ID: row.ID, Request: []byte{3}, At: epoch.Add(time.Hour)}
	if earlier, gone := reserve(again, epoch, false); earlier != nil || gone != (answer.Usage{Rows: 1, Bytes: 6}) {
		t.Errorf("after its life: %+v, gone %+v", earlier, gone)
	}
	usage(answer.Usage{Rows: 2})
	if err := s.Release(ctx, two.ID); err != nil {
		t.Fatal(err)
	}
	usage(answer.Usage{Rows: 1})
}
