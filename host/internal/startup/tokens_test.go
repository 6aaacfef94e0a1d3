package startup

import (
	"maps"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

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
