package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/answer"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

func TestAnswers(t *testing.T) {
	storetest.RunAnswers(t, func(t *testing.T) answer.Store {
		return open(t, filepath.Join(t.TempDir(), "sop.db")).Answers()
	})
}

// Events have revisions without gaps in the order of the commits; what was
// undone left none, and a database that is opened again goes on.
func TestEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	db := open(t, path)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 20 {
				err := db.Gaps().Update(context.Background(), func(tx gap.Tx) error {
					g := &gap.Gap{ID: fmt.Sprintf("%d.%d", w, i), Workspace: "main", Rule: "r", Severity: gap.SeverityHigh, State: gap.StateOpen, Location: gap.Location{Path: "p"}}
					change := gap.Change{GapID: g.ID, At: time.Unix(1, 0), To: gap.StateOpen, By: "scan 1"}
					if err := tx.Put(context.Background(), []*gap.Gap{g}, []gap.Change{change}); err != nil {
						return err
					}
					if i%4 == 3 {
						return errors.New("undo")
					}
					return nil
				})
				if (err != nil) != (i%4 == 3) {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if err := db.Audit().Append(t.Context(), audit.Record{Actor: "host", Action: "plugin.start", Resource: "plugin/x"}, audit.Record{Action: "access.gap.read"}); err != nil {
		t.Fatal(err)
	}
	const want = 8*15 + 1
	check := func(events []*event.Record, err error) {
		t.Helper()
		if err != nil || len(events) != want {
			t.Fatalf("%d events, %v", len(events), err)
		}
		for i, e := range events {
			if e.Revision != int64(i)+1 {
				t.Fatalf("event %d has revision %d", i, e.Revision)
			}
		}
		if e := events[0]; e.Kind != "gap.open" || e.Workspace != "main" || e.Attributes["severity"] != "high" || e.Attributes["path"] != "p" {
			t.Errorf("%+v", e)
		}
		if e := events[want-1]; e.Kind != "plugin.start" || e.Subject != "plugin/x" || e.Outcome != "failure" {
			t.Errorf("%+v", e)
		}
	}
	check(db.Events().After(t.Context(), 0, 1000))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path)
	check(db.Events().After(t.Context(), 0, 1000))
	changed := db.Events().Changed()
	if err := db.Audit().Append(t.Context(), audit.Record{Action: "host.stop"}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if first, last, err := db.Events().Bounds(t.Context()); first != 1 || last != want+1 || err != nil {
		t.Errorf("bounds %d to %d, %v", first, last, err)
	}
}
