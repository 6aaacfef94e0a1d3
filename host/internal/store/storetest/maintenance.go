package storetest

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/maintenance"
	"github.com/sop-host/sop/sdk"
)

// RunMaintenance runs the suite of stores of maintenance requests. open returns an
// empty store, and closes it when t ends.
func RunMaintenance(t *testing.T, open func(t *testing.T) maintenance.Store) {
	for name, test := range map[string]func(*testing.T, maintenance.Store){
		"RoundTrip": testMaintenanceRoundTrip,
		"OneOpen":   testMaintenanceOneOpen,
		"List":      testMaintenanceList,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func makeRequest(id string) *maintenance.Record {
	return &maintenance.Record{
		ID: id, Subsystem: "disk." + id, Workspace: "main", State: maintenance.Open, Severity: maintenance.High, Description: "d", Remedy: "r",
		FiledBy: "host", Owner: "operator/a", TaskID: "t", Count: 2, FirstSeen: epoch, LastSeen: epoch.Add(time.Second),
	}
}

func putRequests(t *testing.T, s maintenance.Store, all ...*maintenance.Record) error {
	t.Helper()
	return s.Update(t.Context(), func(tx maintenance.Tx) error {
		for _, r := range all {
			c := maintenance.Change{ID: r.ID, Subsystem: r.Subsystem, Action: maintenance.Filed, At: epoch, By: "host", Why: "w", Severity: r.Severity, Owner: r.Owner}
			if err := tx.Put(t.Context(), r, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func testMaintenanceRoundTrip(t *testing.T, s maintenance.Store) {
	want := makeRequest("aaa")
	if err := putRequests(t, s, want, makeRequest("aab")); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), func(tx maintenance.Tx) error {
		got, err := tx.Open(t.Context(), "disk.aaa", "main")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		if none, err := tx.Open(t.Context(), "disk.aaa", "other"); none != nil || err != nil {
			t.Errorf("%+v, %v", none, err)
		}
		want.State, want.ClosedAt, want.ClosedBy, want.CloseReason = maintenance.Closed, epoch.Add(time.Hour), "me", "why"
		return tx.Put(t.Context(), want, maintenance.Change{ID: "aaa", Action: maintenance.Ended, At: epoch.Add(time.Hour), By: "me", Why: "why", Severity: maintenance.High})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "aaa")
	if err != nil || len(got.History) != 2 || got.History[1].Action != maintenance.Ended || got.History[1].Why != "why" {
		t.Errorf("%+v, %v", got, err)
	}
	if got != nil {
		got.History = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for ref, reason := range map[string]string{"aa": "MAINTENANCE_AMBIGUOUS", "x": "MAINTENANCE_NOT_FOUND", "": "MAINTENANCE_NOT_FOUND", "%": "MAINTENANCE_NOT_FOUND"} {
		if _, err := s.Get(t.Context(), ref); err == nil || sdk.FromError(err).Reason != reason {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if names, err := s.OpenSubsystems(t.Context()); err != nil || len(names) != 1 || names[0] != "disk.aab" {
		t.Errorf("%v, %v", names, err)
	}
}

func testMaintenanceOneOpen(t *testing.T, s maintenance.Store) {
	one, two := makeRequest("one"), makeRequest("two")
	two.Subsystem = one.Subsystem
	if err := putRequests(t, s, one, two); err == nil {
		t.Error("a subsystem has two open requests")
	}
	if err := putRequests(t, s, one); err != nil {
		t.Fatal(err)
	}
}

func testMaintenanceList(t *testing.T, s maintenance.Store) {
	for i := range 7 {
		r := makeRequest(fmt.Sprint("r", i))
		r.Severity = maintenance.Severity(i%4 + 1)
		if i == 6 {
			r.State, r.ClosedAt = maintenance.Closed, epoch
		}
		if err := putRequests(t, s, r); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for f := (maintenance.Filter{States: []maintenance.State{maintenance.Open}, Limit: 2}); ; {
		page, err := s.List(context.WithoutCancel(t.Context()), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			got = append(got, fmt.Sprint(r.ID, " ", r.Severity))
		}
		if f.Token = page.Next; f.Token == "" {
			break
		}
	}
	if fmt.Sprint(got) != "[r3 critical r2 high r1 medium r5 medium r0 low r4 low]" {
		t.Errorf("%v", got)
	}
	where, err := filter.Parse(`severity >= high AND subsystem = "disk.*"`, maintenance.ListFields)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), maintenance.Filter{Where: where})
	if err != nil || len(page.Records) != 3 {
		t.Errorf("%d, %v", len(page.Records), err)
	}
	if page, err = s.List(t.Context(), maintenance.Filter{Subsystem: "disk.r6"}); err != nil || len(page.Records) != 1 {
		t.Errorf("%d, %v", len(page.Records), err)
	}
}
