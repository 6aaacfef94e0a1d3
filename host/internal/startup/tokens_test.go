package startup

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// tokenHost is a host of tokens alone.
func tokenHost(t *testing.T) *host {
	t.Helper()
	h := &host{logger: hclog.NewNullLogger()}
	var err error
	if h.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "sop.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if h.tokens, err = token.NewService(t.Context(), h.store.Tokens(), token.Options{Key: key}); err != nil {
		t.Fatal(err)
	}
	return h
}

// What a killed host has given to plugins ends at the next start, and nothing else.
func TestOwnTokensEndWithTheHost(t *testing.T) {
	h := tokenHost(t)
	h.loaded.Store(&loaded{config: &config.Config{Plugins: []config.Plugin{{Kind: "protocol", Name: "p"}, {Kind: "detector", Name: "d"}}}})
	want := make(map[string]token.State)
	issue := func(holder, by string, state token.State) {
		t.Helper()
		_, issued, err := h.tokens.Issue(t.Context(), token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: holder, IssuedBy: by})
		if err != nil {
			t.Fatal(err)
		}
		want[issued.ID] = state
	}
	for range revokeAtOnce + 1 {
		issue("plugin:protocol.p", actorHost, token.StateRevoked)
	}
	issue("plugin:detector.d", actorHost, token.StateRevoked)
	issue("plugin:protocol.p", "uid:0", token.StateActive)
	issue("somebody", actorHost, token.StateActive)
	started := h.tokens.Now()
	for !h.tokens.Now().After(started) { // until the clock ticks
	}
	issue("plugin:protocol.p", actorHost, token.StateActive)
	h.endOwnTokens(t.Context(), started)
	for id, state := range want {
		if got, err := h.tokens.Get(t.Context(), id); err != nil || got.State != state {
			t.Errorf("%s by %s: %s, %v; want %s", got.Requester, got.IssuedBy, got.State, err, state)
		}
	}
}

// Both packages name the limits that hold where none are configured.
func TestTokenDefaultsAgree(t *testing.T) {
	s := newSite(t)
	cfg, diags := config.Load(s.config, config.Options{})
	if cfg == nil {
		t.Fatal(diags)
	}
	if got, want := tokenLimits(cfg), token.DefaultLimits(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// New limits hold for tokens that are issued afterwards, and for no others.
func TestTokenLimitsAreReloaded(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	client := apiv1connect.NewTokenClient(s.http(), "http://sop")
	issue := func(uses int64) (*apiv1.TokenRecord, error) {
		resp, err := client.IssueToken(t.Context(), connect.NewRequest(&apiv1.IssueTokenRequest{
			Spec: &apiv1.TokenSpec{Type: "todo", Operations: []string{"op"}, Requester: "a", MaxUses: uses},
		}))
		if err != nil {
			return nil, err
		}
		return resp.Msg.GetToken(), nil
	}
	before, err := issue(0)
	if err != nil || before.GetMaxUses() != 100 {
		t.Fatalf("%v, %v", before, err)
	}
	s.configure("tokens {\n  todo {\n    ttl = \"1h\"\n    max_life = \"2h\"\n    max_uses = 7\n    most_uses = 8\n  }\n}\n")
	s.await("taken over", func(st *apiv1.Status) bool {
		for _, c := range st.GetLastReload().GetChanges() {
			if strings.Contains(strings.Join(c.GetReasons(), " "), "tokens.todo.ttl changed") {
				return st.GetLastReload().GetOk()
			}
		}
		return false
	})
	after, err := issue(0)
	if err != nil || after.GetMaxUses() != 7 || after.GetExpiresAt().AsTime().Sub(after.GetCreatedAt().AsTime()) != time.Hour {
		t.Errorf("%v, %v", after, err)
	}
	if _, err := issue(9); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("more uses than permitted: %v", err)
	}
	kept, err := client.GetToken(t.Context(), connect.NewRequest(&apiv1.GetTokenRequest{Id: before.GetId()}))
	if err != nil || kept.Msg.GetToken().GetMaxUses() != 100 || !kept.Msg.GetToken().GetExpiresAt().AsTime().Equal(before.GetExpiresAt().AsTime()) {
		t.Errorf("a token that lives was changed: %v, %v", kept, err)
	}
}
