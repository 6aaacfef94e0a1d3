package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/sdk"
)

// RunAgents runs the suite of agent stores. open returns an empty store, and
// closes it when t ends.
func RunAgents(t *testing.T, open func(t *testing.T) agent.Store) {
	for name, test := range map[string]func(*testing.T, agent.Store){
		"RoundTrip": testAgentRoundTrip,
		"Rollback":  testAgentRollback,
		"Missing":   testAgentMissing,
		"List":      testAgentList,
		"Touch":     testAgentTouch,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func makeAgent(name string) *agent.Agent {
	return &agent.Agent{
		Name: name, Trust: agent.Exterior, Groups: []string{"a", "b"}, State: agent.StateActive, Reason: "r",
		CreatedAt: epoch, CreatedBy: "me", ChangedAt: epoch.Add(1), ExpiresAt: epoch.Add(time.Hour), Version: 1,
		Keys: []agent.Key{
			{Accessor: name + "-1", Hash: []byte{0, 1, 0xff}, CreatedAt: epoch, EndsAt: epoch.Add(time.Minute)},
			{Accessor: name + "-2", Hash: []byte{2}, CreatedAt: epoch.Add(1)},
		},
	}
}

func putAgents(t *testing.T, s agent.Store, agents ...*agent.Agent) {
	t.Helper()
	err := s.Update(t.Context(), func(tx agent.Tx) error {
		for _, a := range agents {
			if err := tx.Put(t.Context(), a, agent.Change{Name: a.Name, Action: agent.Enrolled, At: epoch, By: "me"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testAgentRoundTrip(t *testing.T, s agent.Store) {
	a, bare := makeAgent("one"), makeAgent("two")
	bare.Groups, bare.ExpiresAt, bare.Keys = nil, time.Time{}, nil
	putAgents(t, s, a, bare)
	for _, want := range []*agent.Agent{a, bare} {
		if got, err := s.Get(t.Context(), want.Name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("stored\n%+v, got\n%+v, %v", want, got, err)
		}
	}
	for _, k := range a.Keys {
		if got, err := s.Find(t.Context(), k.Accessor); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %+v, %v", k.Accessor, got, err)
		}
	}
	a.State, a.Version, a.Keys = agent.StateRevoked, 2, a.Keys[1:]
	putAgents(t, s, a) // replaced
	if got, err := s.Get(t.Context(), "one"); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("stored\n%+v, got\n%+v, %v", a, got, err)
	}
	if got, err := s.Find(t.Context(), "one-1"); got != nil || err != nil {
		t.Errorf("a key that was taken away: %+v, %v", got, err)
	}
	mortal := makeAgent("mortal")
	putAgents(t, s, mortal)
	ends := []agent.End{{Name: "mortal", At: mortal.ExpiresAt, Version: mortal.Version}, {Name: "one", Revoked: true, At: a.ExpiresAt, Version: 2}}
	if got, err := s.Ends(t.Context()); err != nil || !slices.Equal(got, ends) {
		t.Errorf("ends: %v, %v", got, err)
	}
}

func testAgentRollback(t *testing.T, s agent.Store) {
	failed := errors.New("failed")
	err := s.Update(t.Context(), func(tx agent.Tx) error {
		return errors.Join(tx.Put(t.Context(), makeAgent("one"), agent.Change{Name: "one"}), failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "one"); !errors.Is(err, agent.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if got, err := s.Find(t.Context(), "one-1"); got != nil || err != nil {
		t.Errorf("its key is there: %+v, %v", got, err)
	}
}

func testAgentMissing(t *testing.T, s agent.Store) {
	putAgents(t, s, makeAgent("one"))
	for _, name := range []string{"", "on", "one ", "ONE"} {
		if _, err := s.Get(t.Context(), name); !errors.Is(err, agent.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	err := s.Update(t.Context(), func(tx agent.Tx) error {
		_, err := tx.Get(t.Context(), "two")
		return err
	})
	if !errors.Is(err, agent.ErrNotFound) {
		t.Errorf("in a transaction: %v", err)
	}
}

func testAgentList(t *testing.T, s agent.Store) {
	for i := range 7 {
		a := makeAgent(fmt.Sprint("agent", i))
		switch i {
		case 0:
			a.Trust = agent.System
		case 1:
			a.State = agent.StateRevoked
		case 2:
			a.ExpiresAt = time.Time{}
		case 3:
			a.Groups = []string{"abc"}
		}
		putAgents(t, s, a)
	}
	for name, tt := range map[string]struct {
		filter agent.Filter
		want   int
	}{
		"all":     {agent.Filter{}, 7},
		"trust":   {agent.Filter{Trust: agent.System}, 1},
		"group":   {agent.Filter{Group: "a"}, 6},
		"active":  {agent.Filter{States: []agent.State{agent.StateActive}, At: epoch}, 6},
		"expired": {agent.Filter{States: []agent.State{agent.StateExpired}, At: epoch.Add(time.Hour)}, 5},
		"ended":   {agent.Filter{States: []agent.State{agent.StateExpired, agent.StateRevoked}, At: epoch.Add(time.Hour)}, 6},
	} {
		var got []string
		for tt.filter.Limit = 2; ; {
			page, err := s.List(t.Context(), tt.filter)
			if err != nil || len(page.Agents) > 2 {
				t.Fatalf("%s: %+v, %v", name, page, err)
			}
			if (tt.filter.Token == "") != (page.Total > 0) || tt.filter.Token == "" && int(page.Total) != tt.want {
				t.Errorf("%s: %d in all on the page after %q, want %d", name, page.Total, tt.filter.Token, tt.want)
			}
			for _, a := range page.Agents {
				got = append(got, a.Name)
			}
			if tt.filter.Token = page.Next; page.Next == "" {
				break
			}
		}
		if len(got) != tt.want || !slices.IsSorted(got) {
			t.Errorf("%s: %v, want %d", name, got, tt.want)
		}
	}
	if _, err := s.List(t.Context(), agent.Filter{Token: "!"}); sdk.FromError(err).Reason != "PAGE_TOKEN" {
		t.Errorf("page token: %v", err)
	}
}

func testAgentTouch(t *testing.T, s agent.Store) {
	a := makeAgent("one")
	putAgents(t, s, a)
	touch := func(ctx context.Context, at time.Time) {
		t.Helper()
		if err := s.Touch(ctx, map[string]time.Time{"one": at, "nobody": at}); err != nil {
			t.Fatal(err)
		}
	}
	touch(t.Context(), epoch.Add(time.Hour))
	touch(t.Context(), epoch)
	putAgents(t, s, a) // does not know of it
	if got, err := s.Get(t.Context(), "one"); err != nil || !got.LastUsed.Equal(epoch.Add(time.Hour)) {
		t.Errorf("%+v, %v", got, err)
	}
}
