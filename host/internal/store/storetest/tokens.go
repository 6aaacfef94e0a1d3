package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// RunTokens runs the suite of token stores. open returns an empty store, and
// closes it when t ends.
func RunTokens(t *testing.T, open func(t *testing.T) token.Store) {
	for name, test := range map[string]func(*testing.T, token.Store){
		"RoundTrip":   testTokenRoundTrip,
		"Rollback":    testTokenRollback,
		"References":  testTokenReferences,
		"Take":        testTake,
		"TakeAtOnce":  testTakeAtOnce,
		"Descendants": testDescendants,
		"Held":        testHeld,
		"Due":         testDue,
		"List":        testTokenList,
		"Answers":     testAnswers,
		"Clock":       testTokenClock,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func makeToken(t *testing.T, change func(*token.Token)) *token.Token {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	tok := &token.Token{
		ID: id.String(), Accessor: strings.ReplaceAll(uuid.NewString(), "-", "")[:16], Hash: []byte{0, 1, 0xff}, Type: token.Todo,
		State: token.StateActive, Reason: "r", Protocol: "arp", Operations: []string{"a", "ü☃\"x"}, Requester: "agent", Task: "t",
		Paths: []string{"docs/*"}, Workspace: "w", IssuedBy: "me", CreatedAt: epoch, NotBefore: epoch, ExpiresAt: epoch.Add(time.Hour),
		MaxLife: 2 * time.Hour, ChangedAt: epoch.Add(1), MaxUses: 3, Version: 1,
	}
	if change != nil {
		change(tok)
	}
	return tok
}

func inTokenTx(t *testing.T, s token.Store, fn func(ctx context.Context, tx token.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx token.Tx) error { return fn(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

func putTokens(t *testing.T, s token.Store, tokens ...*token.Token) {
	t.Helper()
	inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error { return tx.Put(ctx, tokens, nil) })
}

func testTokenRoundTrip(t *testing.T, s token.Store) {
	parent := makeToken(t, nil)
	putTokens(t, s, parent)
	for _, tok := range []*token.Token{
		makeToken(t, func(k *token.Token) { k.Parent, k.Depth, k.Uses, k.Reserved, k.LastUse = parent.ID, 1, 1, 2, epoch }),
		makeToken(t, func(k *token.Token) {
			k.Protocol, k.Task, k.Paths, k.Workspace, k.State = "", "", nil, "", token.StatePending
		}),
	} {
		changes := []token.Change{
			{TokenID: tok.ID, Accessor: tok.Accessor, Action: token.Issued, At: epoch, To: token.StatePending, By: "me", Why: "w"},
			{TokenID: tok.ID, Accessor: tok.Accessor, Action: token.Activated, At: epoch.Add(1), From: token.StatePending, To: token.StateActive, By: "clock"},
		}
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error { return tx.Put(ctx, []*token.Token{tok}, changes) })
		found, err := s.Find(t.Context(), tok.Accessor)
		if err != nil || !reflect.DeepEqual(found, tok) {
			t.Errorf("stored\n%+v, found\n%+v, %v", tok, found, err)
		}
		tok.State, tok.Version = token.StateRevoked, 2
		putTokens(t, s, tok) // replaced
		want := *tok
		want.History = changes
		got, err := s.Get(t.Context(), tok.ID)
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("stored\n%+v, got\n%+v, %v", &want, got, err)
		}
	}
}

func testTokenRollback(t *testing.T, s token.Store) {
	tok := makeToken(t, nil)
	failed := errors.New("failed")
	err := s.Update(t.Context(), func(tx token.Tx) error {
		return errors.Join(tx.Put(t.Context(), []*token.Token{tok}, []token.Change{{TokenID: tok.ID}}), failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if got, err := s.Find(t.Context(), tok.Accessor); got != nil || err != nil {
		t.Errorf("%+v is there, %v", got, err)
	}
}

func testTokenReferences(t *testing.T, s token.Store) {
	a, b := makeToken(t, nil), makeToken(t, nil)
	putTokens(t, s, a, b)
	for ref, want := range map[string]*token.Token{a.ID: a, a.Accessor: a, b.ID: b, b.Accessor: b} {
		if got, err := s.Get(t.Context(), ref); err != nil || got.ID != want.ID {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	for ref, want := range map[string]error{"": token.ErrNotFound, "nope": token.ErrNotFound, a.ID + "0": token.ErrNotFound, a.ID[:1]: token.ErrAmbiguous} {
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", ref, err, want)
		}
	}
	if got, err := s.Find(t.Context(), "nope"); got != nil || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func testTake(t *testing.T, s token.Store) {
	tok := makeToken(t, nil)
	future := makeToken(t, func(k *token.Token) { k.NotBefore = epoch.Add(time.Minute) })
	revoked := makeToken(t, func(k *token.Token) { k.State = token.StateRevoked })
	putTokens(t, s, tok, future, revoked)
	for i, tt := range []struct {
		known         *token.Token
		uses, reserve int
		at            time.Time
		ok            bool
	}{
		{tok, 1, 0, epoch.Add(-1), false},
		{tok, 1, 0, epoch.Add(time.Hour), false},
		{tok, 4, 0, epoch, false},
		{tok, 0, 2, epoch, true},
		{tok, 2, 0, epoch, false},
		{tok, 1, 0, epoch.Add(time.Hour - 1), true},
		{tok, 1, 0, epoch, false},
		{future, 1, 0, epoch, false},
		{revoked, 1, 0, epoch, false},
		{makeToken(t, nil), 1, 0, epoch, false},
	} {
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error {
			got, err := tx.Take(ctx, tt.known, tt.uses, tt.reserve, tt.at)
			if (got != nil) != tt.ok {
				t.Errorf("%d: %+v", i, got)
			}
			if err != nil || got == nil {
				return err
			}
			stored, err := tx.Find(ctx, tt.known.Accessor)
			if !reflect.DeepEqual(got, stored) {
				t.Errorf("%d: returned\n%+v, stored\n%+v", i, got, stored)
			}
			return err
		})
	}
	got, err := s.Find(t.Context(), tok.Accessor)
	if err != nil || got.Uses != 1 || got.Reserved != 2 || got.Version != 3 || !got.LastUse.Equal(epoch.Add(time.Hour-1)) || !got.ChangedAt.Equal(got.LastUse) {
		t.Errorf("%+v, %v", got, err)
	}
}

func testTakeAtOnce(t *testing.T, s token.Store) {
	const most = 70
	tok := makeToken(t, func(k *token.Token) { k.MaxUses = most })
	putTokens(t, s, tok)
	var mu sync.Mutex
	taken := 0
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 2 {
				var got *token.Token
				err := s.Update(t.Context(), func(tx token.Tx) (err error) {
					got, err = tx.Take(t.Context(), tok, 1, 0, epoch)
					return err
				})
				mu.Lock()
				if err != nil {
					t.Error(err)
				} else if got != nil {
					taken++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got, err := s.Find(t.Context(), tok.Accessor); err != nil || taken != most || got.Uses != most {
		t.Errorf("%d taken, %+v, %v", taken, got, err)
	}
}

func testDescendants(t *testing.T, s token.Store) {
	root, other := makeToken(t, nil), makeToken(t, nil)
	child := makeToken(t, func(k *token.Token) { k.Parent, k.Depth = root.ID, 1 })
	grandchild := makeToken(t, func(k *token.Token) { k.Parent, k.Depth = child.ID, 2 })
	putTokens(t, s, root, other, child, grandchild)
	for id, want := range map[string]int{root.ID: 2, child.ID: 1, grandchild.ID: 0, other.ID: 0, "": 0} {
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error {
			got, err := tx.Descendants(ctx, id)
			if len(got) != want {
				t.Errorf("%s: %d descendants, want %d", id, len(got), want)
			}
			return err
		})
	}
}

func testHeld(t *testing.T, s token.Store) {
	of := func(requester string, state token.State, parent *token.Token) *token.Token {
		return makeToken(t, func(k *token.Token) {
			k.Requester, k.State = requester, state
			if parent != nil {
				k.Parent, k.Depth = parent.ID, parent.Depth+1
			}
		})
	}
	own, pending, spent := of("holder", token.StateActive, nil), of("holder", token.StatePending, nil), of("holder", token.StateCompleted, nil)
	child, other := of("sub", token.StateActive, spent), of("other", token.StateActive, nil)
	grandchild, dead := of("subsub", token.StateActive, child), of("sub", token.StateRevoked, own)
	putTokens(t, s, own, pending, spent, child, other, grandchild, dead, of("holder", token.StateRevoked, nil))
	all := []string{own.Accessor, pending.Accessor, child.Accessor, grandchild.Accessor}
	for limit, want := range map[int]int{10: 4, 4: 4, 2: 2} {
		if held, err := s.Held(t.Context(), "holder", limit); err != nil || !slices.Equal(held, all[:want]) {
			t.Errorf("limit %d: %v are held of %v, %v", limit, held, all, err)
		}
	}
	if held, err := s.Held(t.Context(), "nobody", 10); err != nil || len(held) > 0 {
		t.Errorf("%v are held by nobody, %v", held, err)
	}
}

func testDue(t *testing.T, s token.Store) {
	expired := makeToken(t, func(k *token.Token) { k.ExpiresAt = epoch })
	begun := makeToken(t, func(k *token.Token) { k.State = token.StatePending })
	over := makeToken(t, func(k *token.Token) { k.State, k.ExpiresAt = token.StatePending, epoch })
	putTokens(t, s, expired, begun, over, makeToken(t, nil),
		makeToken(t, func(k *token.Token) { k.State, k.ExpiresAt = token.StateExpired, epoch }),
		makeToken(t, func(k *token.Token) { k.State, k.NotBefore = token.StatePending, epoch.Add(1) }))
	for limit, want := range map[int]int{10: 3, 3: 3, 2: 2, 1: 1} {
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error {
			due, err := tx.Due(ctx, epoch, limit)
			seen := make(map[string]bool)
			for _, k := range due {
				seen[k.ID] = k.ID == expired.ID || k.ID == begun.ID || k.ID == over.ID
			}
			if len(due) != want || len(seen) != want || (limit > 2 && !seen[begun.ID]) {
				t.Errorf("limit %d: %d are due", limit, len(due))
			}
			return err
		})
	}
}

func testTokenList(t *testing.T, s token.Store) {
	var all []*token.Token
	for i := range 7 {
		all = append(all, makeToken(t, func(k *token.Token) {
			k.Type = token.Types()[i%2]
			k.Requester = fmt.Sprint("agent", i%3)
			if i == 6 {
				k.State, k.Task = token.StateRevoked, "special"
			}
			if i == 3 {
				k.IssuedBy = "other"
			}
			if i == 5 {
				k.State = token.StatePending // and its time has come
			}
		}))
	}
	putTokens(t, s, all...)
	for name, tt := range map[string]struct {
		filter token.Filter
		want   int
	}{
		"all":       {token.Filter{}, 7},
		"type":      {token.Filter{Types: []token.Type{token.Operation}}, 4},
		"requester": {token.Filter{Requester: "agent0"}, 3},
		"issuer":    {token.Filter{Requester: "agent0", IssuedBy: "other"}, 1},
		"task":      {token.Filter{Task: "special"}, 1},
		"state":     {token.Filter{States: []token.State{token.StateActive}, At: epoch}, 6},
		"pending":   {token.Filter{States: []token.State{token.StatePending}, At: epoch.Add(-1)}, 1},
		"expired":   {token.Filter{States: []token.State{token.StateExpired, token.StateRevoked}, At: epoch.Add(time.Hour)}, 7},
	} {
		var got []*token.Token
		for tt.filter.Limit = 2; ; {
			page, err := s.List(t.Context(), tt.filter)
			if err != nil || len(page.Tokens) > 2 {
				t.Fatalf("%s: %+v, %v", name, page, err)
			}
			if (tt.filter.Token == "") != (page.Total > 0) || tt.filter.Token == "" && int(page.Total) != tt.want {
				t.Errorf("%s: %d in all on the page after %q, want %d", name, page.Total, tt.filter.Token, tt.want)
			}
			got = append(got, page.Tokens...)
			if tt.filter.Token = page.Next; page.Next == "" {
				break
			}
		}
		for i := 1; i < len(got); i++ {
			if got[i-1].ID <= got[i].ID {
				t.Errorf("%s: not the latest first", name)
			}
		}
		if len(got) != tt.want {
			t.Errorf("%s: %d tokens, want %d", name, len(got), tt.want)
		}
	}
	if _, err := s.List(t.Context(), token.Filter{Token: "nonsense"}); sdk.FromError(err).Reason != "PAGE_TOKEN" {
		t.Errorf("page token: %v", err)
	}
}

func testAnswers(t *testing.T, s token.Store) {
	tok := makeToken(t, nil)
	putTokens(t, s, tok)
	put := func(key string, at time.Time, uses int) {
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error {
			return tx.PutAnswer(ctx, tok.ID, key, &token.Answer{At: at, Request: []byte{1, 0}, Use: token.Use{ID: tok.ID, Uses: uses, At: at, ExpiresAt: at}})
		})
	}
	put("k", epoch, 1)
	put("l", epoch.Add(time.Hour), 1)
	put("k", epoch.Add(time.Minute), 2)
	look := func(key string) (got *token.Answer) {
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) (err error) {
			got, err = tx.Answer(ctx, tok.ID, key)
			return err
		})
		return got
	}
	at := epoch.Add(time.Minute)
	want := &token.Answer{At: at, Request: []byte{1, 0}, Use: token.Use{ID: tok.ID, Uses: 2, At: at, ExpiresAt: at}}
	if got := look("k"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error { return tx.ForgetAnswers(ctx, epoch.Add(time.Hour), 10) })
	if look("k") != nil || look("l") == nil || look("m") != nil {
		t.Error("the wrong answers were forgotten")
	}
}

func testTokenClock(t *testing.T, s token.Store) {
	if at, err := s.Clock(t.Context()); err != nil || !at.IsZero() {
		t.Errorf("%v, %v", at, err)
	}
	for _, at := range []time.Time{epoch, epoch.Add(time.Hour), epoch} {
		inTokenTx(t, s, func(ctx context.Context, tx token.Tx) error { return tx.SetClock(ctx, at) })
	}
	if at, err := s.Clock(t.Context()); err != nil || !at.Equal(epoch.Add(time.Hour)) {
		t.Errorf("%v, %v", at, err)
	}
}
