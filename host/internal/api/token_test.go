package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// memoryTokens are tokens kept in memory.
func memoryTokens(t *testing.T) *token.Service {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewService(t.Context(), db.Tokens(), token.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// serveTokens serves tokens kept in memory on a socket.
func serveTokens(t *testing.T) apiv1connect.TokenClient {
	t.Helper()
	client, _ := serveTokensWithLog(t)
	return client
}

func serveTokensWithLog(t *testing.T) (apiv1connect.TokenClient, *fakeLog) {
	t.Helper()
	tokens := memoryTokens(t) // which outlive the server
	path := filepath.Join(t.TempDir(), "sop.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	log := &fakeLog{}
	server := NewServer(&nexus.Nexus{Tokens: tokens, Audit: log, Logger: hclog.NewNullLogger()})
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := errors.Join(server.Shutdown(context.WithoutCancel(t.Context())), <-done); err != nil {
			t.Error(err)
		}
	})
	return apiv1connect.NewTokenClient(&http.Client{Transport: transport}, "http://sop"), log
}

// tokenReason is why a call was refused.
func tokenReason(t *testing.T, err error) string {
	t.Helper()
	var ce *connect.Error
	if !errors.As(err, &ce) || len(ce.Details()) == 0 {
		t.Fatalf("got %v", err)
	}
	return apierr.Decode(ce).Reason
}

func TestTokensOverTheSocket(t *testing.T) {
	client, ctx := serveTokens(t), t.Context()
	spec := &apiv1.TokenSpec{Type: "todo", Operations: []string{"op"}, Requester: "agent", Paths: []string{"docs"}, Ttl: durationpb.New(time.Hour)}
	dry, err := client.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: spec, ValidateOnly: true}))
	if err != nil || dry.Msg.GetSecret() != "" {
		t.Errorf("%v, %v", dry, err)
	}
	issued, err := client.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: spec}))
	if err != nil {
		t.Fatal(err)
	}
	secret, id := issued.Msg.GetSecret(), issued.Msg.GetToken().GetId()
	if p, err := token.ParseSecret(secret); err != nil || p.Accessor() != issued.Msg.GetToken().GetAccessor() {
		t.Errorf("secret: %v", err)
	}
	looked, err := client.ValidateToken(ctx, connect.NewRequest(&apiv1.ValidateTokenRequest{Secret: secret}))
	if err != nil || looked.Msg.GetToken().GetRemaining() != 100 {
		t.Errorf("%v, %v", looked, err)
	}
	use := &apiv1.TokenUse{Operation: "op", Paths: []string{"docs/a"}}
	_, err = client.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: use}))
	if got := tokenReason(t, err); got != token.ReasonWrongAgent || connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("as oneself: %s", got)
	}
	use.Requester = "agent"
	used, err := client.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: use, IdempotencyKey: "k"}))
	if err != nil || used.Msg.GetUses() != 1 || used.Msg.GetRemaining() != 99 || used.Msg.GetState() != "active" {
		t.Errorf("%v, %v", used, err)
	}
	child, err := client.IssueChildToken(ctx, connect.NewRequest(&apiv1.IssueChildTokenRequest{Secret: secret, Holder: "agent", Spec: &apiv1.TokenSpec{MaxUses: 9}}))
	if err != nil || child.Msg.GetToken().GetParent() != id {
		t.Errorf("%v, %v", child, err)
	}
	renewed, err := client.RenewToken(ctx, connect.NewRequest(&apiv1.RenewTokenRequest{Id: id, Ttl: durationpb.New(2 * time.Hour)}))
	if err != nil || !renewed.Msg.GetToken().GetExpiresAt().AsTime().After(issued.Msg.GetToken().GetExpiresAt().AsTime()) {
		t.Errorf("%v, %v", renewed, err)
	}
	list, err := client.ListTokens(ctx, connect.NewRequest(&apiv1.ListTokensRequest{States: []string{"active"}, PageSize: 1}))
	if err != nil || len(list.Msg.GetTokens()) != 1 || list.Msg.GetNextPageToken() == "" {
		t.Errorf("%v, %v", list, err)
	}
	_, err = client.ListTokens(ctx, connect.NewRequest(&apiv1.ListTokensRequest{Types: []string{"other"}}))
	if tokenReason(t, err) != "TOKEN_REQUEST" {
		t.Errorf("unknown type: %v", err)
	}
	revoked, err := client.RevokeToken(ctx, connect.NewRequest(&apiv1.RevokeTokenRequest{Id: id[:30], Reason: "leaked"}))
	if err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument { // the child's id may begin so
		t.Errorf("%v, %v", revoked, err)
	}
	if revoked, err = client.RevokeToken(ctx, connect.NewRequest(&apiv1.RevokeTokenRequest{Id: id, Reason: "leaked"})); err != nil {
		t.Errorf("%v, %v", revoked, err)
	}
	got, err := client.GetToken(ctx, connect.NewRequest(&apiv1.GetTokenRequest{Id: child.Msg.GetToken().GetAccessor()}))
	if err != nil || got.Msg.GetToken().GetState() != "revoked" || len(got.Msg.GetToken().GetHistory()) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

// Only a system caller is told why, and speaks for others.
func TestWhoPresentsAToken(t *testing.T) {
	stranger := nexus.WithCaller(t.Context(), nexus.PeerCaller(54321, 0))
	if _, _, err := nexus.Presenting(stranger, "agent"); err == nil {
		t.Error("a stranger spoke for another")
	}
	for name, tt := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"stranger": {stranger, token.ReasonDenied},
		"nobody":   {t.Context(), token.ReasonDenied},
		"root":     {nexus.WithCaller(t.Context(), nexus.PeerCaller(0, 0)), token.ReasonMalformed},
	} {
		ctx, who, err := nexus.Presenting(tt.ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = memoryTokens(t).Validate(ctx, "garbage", token.Request{Requester: who})
		if got := fmt.Sprint(wireError(err)); tokenReason(t, wireError(err)) != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A refusal is recorded with its reason and the token's accessor, never with
// the secret.
func TestTokenRefusalsAreRecorded(t *testing.T) {
	client, log := serveTokensWithLog(t)
	spec := &apiv1.TokenSpec{Type: "operation", Operations: []string{"op"}, Requester: "agent"}
	issued, err := client.IssueToken(t.Context(), connect.NewRequest(&apiv1.IssueTokenRequest{Spec: spec}))
	if err != nil {
		t.Fatal(err)
	}
	secret := issued.Msg.GetSecret()
	for _, presented := range []string{secret, "no token at all"} {
		_, err := client.ConsumeToken(t.Context(), connect.NewRequest(&apiv1.ConsumeTokenRequest{
			Secret: presented, Use: &apiv1.TokenUse{Operation: "another", Requester: "agent"},
		}))
		if err == nil {
			t.Fatal("it was permitted")
		}
	}
	var refusals []string
	for _, r := range log.all() {
		if strings.Contains(fmt.Sprint(*r), secret) {
			t.Errorf("the secret is in the record: %v", r.Action)
		}
		if r.Action == "access.token.consume" {
			refusals = append(refusals, fmt.Sprint(r.Outcome, " ", r.Reason, " ", r.Token))
		}
	}
	want := []string{
		"denied TOKEN_WRONG_OPERATION " + issued.Msg.GetToken().GetAccessor(),
		"denied TOKEN_MALFORMED ",
	}
	if !slices.Equal(refusals, want) {
		t.Errorf("recorded %q, want %q", refusals, want)
	}
}

// Every reason for a refusal is its own, and none costs a use.
func TestTokenRefusalsCostNothing(t *testing.T) {
	client, ctx := serveTokens(t), t.Context()
	issue := func(change func(*apiv1.TokenSpec)) (string, string) {
		spec := &apiv1.TokenSpec{
			Type: "todo", Operations: []string{"op"}, Requester: "agent", Protocol: "arp", Task: "t1", Workspace: "w", Paths: []string{"docs"}, MaxUses: 2,
		}
		if change != nil {
			change(spec)
		}
		issued, err := client.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: spec}))
		if err != nil {
			t.Fatal(err)
		}
		return issued.Msg.GetSecret(), issued.Msg.GetToken().GetId()
	}
	consume := func(secret string, change func(*apiv1.TokenUse)) error {
		use := &apiv1.TokenUse{Operation: "op", Requester: "agent", Protocol: "arp", Task: "t1", Workspace: "w", Paths: []string{"docs/a"}}
		if change != nil {
			change(use)
		}
		_, err := client.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: use}))
		return err
	}
	uses := func(id string) int64 {
		got, err := client.GetToken(ctx, connect.NewRequest(&apiv1.GetTokenRequest{Id: id}))
		if err != nil {
			t.Fatal(err)
		}
		return got.Msg.GetToken().GetUses()
	}

	live, liveID := issue(nil)
	revoked, revokedID := issue(nil)
	if _, err := client.RevokeToken(ctx, connect.NewRequest(&apiv1.RevokeTokenRequest{Id: revokedID})); err != nil {
		t.Fatal(err)
	}
	spent, spentID := issue(func(s *apiv1.TokenSpec) { s.MaxUses = 1 })
	if err := consume(spent, nil); err != nil {
		t.Fatal(err)
	}
	expired, expiredID := issue(func(s *apiv1.TokenSpec) { s.Ttl = durationpb.New(time.Nanosecond) })
	future, futureID := issue(func(s *apiv1.TokenSpec) { s.NotBefore = timestamppb.New(time.Now().Add(time.Hour)) })
	for name, tt := range map[string]struct {
		secret, id string
		uses       int64
		change     func(*apiv1.TokenUse)
		want       string
	}{
		"expired":         {expired, expiredID, 0, nil, token.ReasonExpired},
		"revoked":         {revoked, revokedID, 0, nil, token.ReasonRevoked},
		"exhausted":       {spent, spentID, 1, nil, token.ReasonExhausted},
		"not yet":         {future, futureID, 0, nil, token.ReasonNotYet},
		"foreign task":    {live, liveID, 0, func(u *apiv1.TokenUse) { u.Task = "t2" }, token.ReasonForeignTask},
		"no task":         {live, liveID, 0, func(u *apiv1.TokenUse) { u.Task = "" }, token.ReasonForeignTask},
		"wrong protocol":  {live, liveID, 0, func(u *apiv1.TokenUse) { u.Protocol = "scp" }, token.ReasonWrongProtocol},
		"wrong agent":     {live, liveID, 0, func(u *apiv1.TokenUse) { u.Requester = "other" }, token.ReasonWrongAgent},
		"wrong operation": {live, liveID, 0, func(u *apiv1.TokenUse) { u.Operation = "other" }, token.ReasonWrongOperation},
		"wrong workspace": {live, liveID, 0, func(u *apiv1.TokenUse) { u.Workspace = "v" }, token.ReasonWrongWorkspace},
		"wrong path":      {live, liveID, 0, func(u *apiv1.TokenUse) { u.Paths = []string{"docs/../src"} }, token.ReasonWrongPath},
		"mistyped":        {flip(live), liveID, 0, nil, token.ReasonMalformed},
		"malformed":       {"sop_t_x", liveID, 0, nil, token.ReasonMalformed},
		"empty":           {"", liveID, 0, nil, token.ReasonMalformed},
		"oversize":        {live + strings.Repeat("x", 500_000), liveID, 0, nil, token.ReasonOversize},
	} {
		err := consume(tt.secret, tt.change)
		if got := tokenReason(t, err); got != tt.want || connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		if got := uses(tt.id); got != tt.uses {
			t.Errorf("%s: %d uses, want %d", name, got, tt.uses)
		}
	}
	if err := consume(live+strings.Repeat("x", 2*maxRequest), nil); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("larger than any request: %v", err)
	}
	if err := consume(live, nil); err != nil || uses(liveID) != 1 {
		t.Errorf("the token itself: %v", err)
	}
}

// Who knows the accessor, which is no secret, sees what became of a token and
// can end it; how it ended stays as it was.
func TestAccessorIsEnoughForOperators(t *testing.T) {
	client, ctx := serveTokens(t), t.Context()
	issued, err := client.IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{
		Spec: &apiv1.TokenSpec{Type: "test", Operations: []string{"op"}, Requester: "agent", MaxUses: 3},
	}))
	if err != nil {
		t.Fatal(err)
	}
	secret, accessor := issued.Msg.GetSecret(), issued.Msg.GetToken().GetAccessor()
	use := &apiv1.TokenUse{Operation: "op", Requester: "agent"}
	if _, err := client.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: use})); err != nil {
		t.Fatal(err)
	}
	list, err := client.ListTokens(ctx, connect.NewRequest(&apiv1.ListTokensRequest{Filter: `remaining = 2 AND accessor = "` + accessor + `"`}))
	if err != nil || len(list.Msg.GetTokens()) != 1 || list.Msg.GetTokens()[0].GetRemaining() != 2 {
		t.Errorf("%v, %v", list, err)
	}
	for i, why := range []string{"left on a pastebin", "another reason"} {
		revoked, err := client.RevokeToken(ctx, connect.NewRequest(&apiv1.RevokeTokenRequest{Id: accessor, Reason: why}))
		if err != nil || revoked.Msg.GetRevoked() != int64(1-i) {
			t.Errorf("%v, %v", revoked, err)
		}
	}
	if _, err := client.RenewToken(ctx, connect.NewRequest(&apiv1.RenewTokenRequest{Id: accessor})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("renewed: %v", err)
	}
	if _, err := client.ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: use})); tokenReason(t, err) != token.ReasonRevoked {
		t.Errorf("used: %v", err)
	}
	got, err := client.GetToken(ctx, connect.NewRequest(&apiv1.GetTokenRequest{Id: accessor}))
	if err != nil {
		t.Fatal(err)
	}
	if r := got.Msg.GetToken(); r.GetState() != "revoked" || r.GetReason() != "left on a pastebin" || r.GetUses() != 1 || r.GetAccessor() != accessor {
		t.Errorf("%v", r)
	}
	if strings.Contains(fmt.Sprint(got.Msg, list.Msg), secret) {
		t.Error("the secret is shown")
	}
}

// flip changes one digit of a secret.
func flip(secret string) string {
	b := []byte(secret)
	at := len(b) - 10
	if b[at]++; b[at] == '9'+1 || b[at] == 'z'+1 || b[at] == 'Z'+1 {
		b[at] -= 2
	}
	return string(b)
}
