package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// A database that takes no writes is found out, and one that does is not
// changed by being asked.
func TestWritable(t *testing.T) {
	db := openGroups(t)
	if err := db.Audit().Append(t.Context(), audit.Record{Actor: "a", Action: "b", Outcome: audit.Success}); err != nil {
		t.Fatal(err)
	}
	before, err := db.Audit().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Writable(t.Context()); err != nil {
		t.Errorf("it can be written to: %v", err)
	}
	if after, err := db.Audit().Head(t.Context()); err != nil || after.Size != before.Size || after.Root() != before.Root() {
		t.Errorf("changed by being asked: %v", err)
	}
	for pragma, writable := range map[string]bool{"PRAGMA query_only = 1": false, "PRAGMA query_only = 0": true} {
		if _, err := db.write.ExecContext(t.Context(), pragma); err != nil {
			t.Fatal(err)
		}
		if err := db.Writable(t.Context()); (err == nil) != writable {
			t.Errorf("%s: %v", pragma, err)
		}
	}
}

// A database that has no room for a record does not count as writable, although a
// page that is there could be written, until a record fits; which says since when
// none did.
func TestWritableAfterRefusal(t *testing.T) {
	db := openGroups(t)
	limit := func(pages int64) {
		t.Helper()
		if _, err := db.write.ExecContext(t.Context(), "PRAGMA max_page_count = "+strconv.FormatInt(pages, 10)); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := number(t.Context(), db.read, "PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	limit(pages)
	for err == nil {
		if was := db.Refused(); was != nil {
			t.Fatal(was)
		}
		err = db.Audit().Append(t.Context(), audit.Record{Actor: "a", Action: "b", Outcome: audit.Success})
	}
	for what, got := range map[string]error{"append": err, "refused": db.Refused(), "writable": db.Writable(t.Context()), "refused again": db.Refused()} {
		if got == nil || sdk.FromError(got).Reason != reasonFull {
			t.Errorf("%s: %v", what, got)
		}
	}
	limit(pages + 100)
	for range 2 {
		if err := db.Writable(t.Context()); err != nil || db.Refused() != nil {
			t.Errorf("with room: %v, %v", err, db.Refused())
		}
	}
	page, err := db.Audit().List(t.Context(), audit.Filter{Action: "store.writable"})
	if err != nil || len(page.Records) != 1 || page.Records[0].Attributes["code"] != reasonFull || page.Records[0].Attributes["refused_since"] == "" {
		t.Errorf("%+v, %v", page.Records, err)
	}
}

// Every transaction is heard of, with those who shared it, and how it ended.
func TestOnGroup(t *testing.T) {
	db := openGroups(t)
	type heard struct {
		size int
		err  error
	}
	var all []heard
	db.OnGroup(func(size int, _ time.Duration, err error) { all = append(all, heard{size, err}) })
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := db.update(t.Context(), work(t.Context(), db, i)); err != nil {
				t.Error(err)
			}
		})
	}
	for db.Waiting() < 4 { // the others come to wait
		runtime.Gosched()
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	failed := errors.New("failed")
	if err := db.update(t.Context(), func(*sql.Tx) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	db.writer.close() // what it tells has been told
	callers := 0
	for _, h := range all {
		callers += h.size
		if h.err != nil {
			t.Error(h.err)
		}
	}
	if callers != 4 || db.Waiting() != 0 {
		t.Errorf("%+v, %d wait", all, db.Waiting())
	}
}

// Tokens are counted in the state in which they are, recorded or not.
func TestCountTokens(t *testing.T) {
	db := openGroups(t)
	key, err := token.LoadKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := token.NewService(t.Context(), db.Tokens(), token.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	spec := token.Spec{Type: token.Test, Operations: []string{"x"}, Requester: "a", IssuedBy: "b"}
	for range 2 {
		if _, _, err := s.Issue(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	spec.Type = token.Todo
	if _, _, err := s.Issue(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   time.Time
		want []token.Count
	}{
		{time.Now(), []token.Count{{Type: token.Test, State: token.StateActive, Tokens: 2}, {Type: token.Todo, State: token.StateActive, Tokens: 1}}},
		{time.Now().Add(time.Hour), []token.Count{{Type: token.Test, State: token.StateExpired, Tokens: 2}, {Type: token.Todo, State: token.StateActive, Tokens: 1}}},
	} {
		got, err := db.CountTokens(context.WithoutCancel(t.Context()), tt.at)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%v: %+v, %v", tt.at, got, err)
		}
	}
	if size, err := db.Size(); err != nil || size <= 0 {
		t.Errorf("%d bytes, %v", size, err)
	}
}
