package token_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

var start = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// site is a service on a database, with a clock that is set by hand.
type site struct {
	*token.Service
	t    testing.TB
	ctx  context.Context
	path string
	db   *store.DB
	key  token.Key

	mu      sync.Mutex
	wall    time.Time
	changes []token.Change
	holders map[string]token.Holder // agents; by name
}

func newSite(t testing.TB) *site {
	t.Helper()
	key, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, ctx: token.WithReasons(t.Context()), path: filepath.Join(t.TempDir(), "sop.db"), key: key, wall: start}
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *site) open() {
	s.t.Helper()
	var err error
	if s.db, err = store.Open(s.ctx, s.path); err != nil {
		s.t.Fatal(err)
	}
	s.Service, err = token.NewService(s.ctx, s.db.Tokens(), token.Options{Key: s.key, Publisher: s, Now: s.now, Holder: s.holder})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) close() {
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *site) Publish(event any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, event.(token.Changed).Changes...)
}

func (s *site) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wall
}

func (s *site) holder(agent string) token.Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holders[agent]
}

// becomes says what has become of an agent from now on.
func (s *site) becomes(agent string, h token.Holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders = map[string]token.Holder{agent: h}
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wall = s.wall.Add(d)
}

func (s *site) issue(change func(*token.Spec)) (string, *token.Token) {
	s.t.Helper()
	spec := token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: "agent", IssuedBy: "test"}
	if change != nil {
		change(&spec)
	}
	secret, t, err := s.Issue(s.ctx, spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return secret.Reveal(), t
}

var request = token.Request{Requester: "agent", Operation: "op", Source: "test"}

func with(change func(*token.Request)) token.Request {
	r := request
	change(&r)
	return r
}

func (s *site) show(ref string) *token.Token {
	s.t.Helper()
	t, err := s.Get(s.ctx, ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

func wantReason(t testing.TB, err error, reason string) {
	t.Helper()
	if e := sdk.FromError(err); e == nil || e.Reason != reason || e.Remedy == "" {
		t.Errorf("got %v (%+v), want reason %s and a remedy", err, e, reason)
	}
}

func actions(t *token.Token) (out []token.Action) {
	for _, c := range t.History {
		out = append(out, c.Action)
	}
	return out
}

func TestDefaults(t *testing.T) {
	s := newSite(t)
	for typ, want := range map[token.Type]struct {
		ttl  time.Duration
		uses int
	}{
		token.Operation: {24 * time.Hour, 1}, token.Todo: {48 * time.Hour, 100}, token.Integration: {time.Hour, 1}, token.Test: {15 * time.Minute, 10},
	} {
		_, tok := s.issue(func(spec *token.Spec) { spec.Type = typ })
		if tok.ExpiresAt.Sub(start) != want.ttl || tok.MaxUses != want.uses || tok.State != token.StateActive {
			t.Errorf("%s: %+v", typ, tok)
		}
	}
}

func TestSpecsAreChecked(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*token.Spec){
		"type":       func(p *token.Spec) { p.Type = "other" },
		"operations": func(p *token.Spec) { p.Operations = nil },
		"star":       func(p *token.Spec) { p.Operations = []string{"a.*"} },
		"requester":  func(p *token.Spec) { p.Requester = "" },
		"name":       func(p *token.Spec) { p.Task = "a\nb" },
		"path":       func(p *token.Spec) { p.Paths = []string{"../x"} },
		"ttl":        func(p *token.Spec) { p.TTL = 1 << 62 },
		"negative":   func(p *token.Spec) { p.TTL = -1 },
		"start":      func(p *token.Spec) { p.NotBefore = start.AddDate(8000, 0, 0) },
		"life":       func(p *token.Spec) { p.MaxLife = 1<<63 - 1 },
		"uses":       func(p *token.Spec) { p.MaxUses = 1 << 40 },
		"no uses":    func(p *token.Spec) { p.MaxUses = -1 },
	} {
		spec := token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: "agent"}
		change(&spec)
		_, _, err := s.Issue(s.ctx, spec)
		if sdk.FromError(err) == nil || sdk.FromError(err).Code != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
		wantReason(t, err, "TOKEN_REQUEST")
		wantReason(t, s.Check(spec), "TOKEN_REQUEST")
	}
}

// Each failure has its own reason, costs no use, and looks the same to who may
// not know.
func TestRefusals(t *testing.T) {
	s := newSite(t)
	bind := func(p *token.Spec) {
		p.Protocol, p.Task, p.Workspace, p.Paths = "arp", "t1", "w", []string{"docs"}
	}
	full := with(func(r *token.Request) {
		r.Protocol, r.Task, r.Workspace, r.Paths = "arp", "t1", "w", []string{"docs/a"}
	})
	secret, tok := s.issue(bind)
	unknown, gone := s.issue(nil)
	if _, _, err := s.Revoke(s.ctx, gone.ID, "me", "leaked"); err != nil {
		t.Fatal(err)
	}
	pending, _ := s.issue(func(p *token.Spec) { p.NotBefore = start.Add(time.Hour) })
	spent, _ := s.issue(func(p *token.Spec) { p.Type = token.Operation })
	if _, err := s.Consume(s.ctx, spent, request); err != nil {
		t.Fatal(err)
	}
	old, _ := s.issue(func(p *token.Spec) { p.Type, p.TTL = token.Test, time.Minute })
	s.pass(time.Minute)
	change := func(f func(*token.Request)) token.Request { r := full; f(&r); return r }
	for _, tt := range []struct {
		secret string
		req    token.Request
		reason string
	}{
		{"garbage", full, token.ReasonMalformed},
		{strings.Repeat("x", 1<<20), full, token.ReasonOversize},
		{newSite(t).foreign(), request, token.ReasonUnknown},
		{unknown, request, token.ReasonRevoked},
		{pending, request, token.ReasonNotYet},
		{spent, request, token.ReasonExhausted},
		{old, request, token.ReasonExpired},
		{secret, change(func(r *token.Request) { r.Requester = "other" }), token.ReasonWrongAgent},
		{secret, change(func(r *token.Request) { r.Requester = "" }), token.ReasonWrongAgent},
		{secret, change(func(r *token.Request) { r.Protocol = "scp" }), token.ReasonWrongProtocol},
		{secret, change(func(r *token.Request) { r.Protocol = "" }), token.ReasonWrongProtocol},
		{secret, change(func(r *token.Request) { r.Operation = "other" }), token.ReasonWrongOperation},
		{secret, change(func(r *token.Request) { r.Operation = "" }), token.ReasonWrongOperation},
		{secret, change(func(r *token.Request) { r.Task = "t2" }), token.ReasonForeignTask},
		{secret, change(func(r *token.Request) { r.Task = "" }), token.ReasonForeignTask},
		{secret, change(func(r *token.Request) { r.Workspace = "v" }), token.ReasonWrongWorkspace},
		{secret, change(func(r *token.Request) { r.Paths = nil }), token.ReasonWrongPath},
		{secret, change(func(r *token.Request) { r.Paths = []string{"docs/a", "src"} }), token.ReasonWrongPath},
		{secret, change(func(r *token.Request) { r.Paths = []string{"docs/../src"} }), token.ReasonWrongPath},
	} {
		before := s.show(tok.ID)
		_, err := s.Consume(s.ctx, tt.secret, tt.req)
		wantReason(t, err, tt.reason)
		_, err = s.Validate(s.ctx, tt.secret, tt.req)
		wantReason(t, err, tt.reason)
		if strings.Contains(err.Error(), secret[25:]) {
			t.Errorf("%s: the error holds the secret", tt.reason)
		}
		_, err = s.Consume(t.Context(), tt.secret, tt.req)
		var real *sdk.Error
		if e := sdk.FromError(err); e.Reason != token.ReasonDenied || e.Message != "the token does not permit this" || e.Code != codes.PermissionDenied ||
			!errors.As(e.Cause, &real) || real.Reason != tt.reason {
			t.Errorf("%s: somebody who may not know is told %+v", tt.reason, e)
		}
		if after := s.show(tok.ID); after.Uses != before.Uses {
			t.Errorf("%s: cost a use", tt.reason)
		}
	}
	use, err := s.Consume(s.ctx, secret, full)
	if err != nil || use.Uses != 1 || use.Remaining != 99 {
		t.Errorf("%+v, %v", use, err)
	}
	r := token.Request{NamedOnly: true}
	if _, err := s.Validate(s.ctx, secret, r); err != nil {
		t.Errorf("look only: %v", err)
	}
	_, err = s.Consume(s.ctx, secret, r)
	wantReason(t, err, token.ReasonWrongAgent)
}

// foreign returns the secret of another host.
func (s *site) foreign() string {
	secret, _ := s.issue(nil)
	return secret
}

func TestUsesAndStates(t *testing.T) {
	s := newSite(t)
	secret, tok := s.issue(func(p *token.Spec) { p.MaxUses, p.NotBefore = 2, start.Add(time.Minute) })
	if tok.State != token.StatePending {
		t.Errorf("state %s", tok.State)
	}
	s.pass(time.Minute)
	if got, err := s.Validate(s.ctx, secret, request); err != nil || got.State != token.StateActive {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []token.State{token.StateActive, token.StateCompleted} {
		use, err := s.Consume(s.ctx, secret, request)
		if err != nil || use.State != want || use.Remaining != 1-i {
			t.Errorf("use %d: %+v, %v", i, use, err)
		}
	}
	got := s.show(tok.Accessor)
	if want := []token.Action{token.Issued, token.Activated, token.Completed}; !slices.Equal(actions(got), want) || got.Reason == "" {
		t.Errorf("history %v, reason %q", actions(got), got.Reason)
	}
	used := 0
	for _, c := range s.changes {
		if c.Action == token.Used && c.TokenID == tok.ID {
			used++
		}
	}
	if used != 2 {
		t.Errorf("%d uses were told", used)
	}
	_, _, err := s.Revoke(s.ctx, tok.ID, "me", "too late")
	wantReason(t, err, "TOKEN_ENDED")
	if again := s.show(tok.ID); again.State != token.StateCompleted || again.Reason != got.Reason {
		t.Errorf("a terminal state lost its reason: %+v", again)
	}
}

func TestChildren(t *testing.T) {
	s := newSite(t)
	secret, parent := s.issue(func(p *token.Spec) { p.MaxUses, p.Paths = 5, []string{"docs"} })
	holder := token.Request{Requester: "agent", Source: "test"}
	_, _, err := s.IssueChild(s.ctx, secret, token.Request{Requester: "thief"}, token.Spec{})
	wantReason(t, err, token.ReasonWrongAgent)
	_, _, err = s.IssueChild(s.ctx, secret, holder, token.Spec{MaxUses: 5, Paths: []string{"src"}})
	wantReason(t, err, token.ReasonWider)
	childSecret, child, err := s.IssueChild(s.ctx, secret, holder, token.Spec{MaxUses: 4, Requester: "sub", IssuedBy: "agent"})
	if err != nil || child.Parent != parent.ID || child.MaxUses != 4 || !child.ExpiresAt.Equal(parent.ExpiresAt) || !slices.Equal(child.Paths, parent.Paths) {
		t.Fatalf("%+v, %v", child, err)
	}
	if got := s.show(parent.ID); got.Remaining() != 1 || got.Reserved != 4 || got.State != token.StateActive {
		t.Errorf("parent %+v", got)
	}
	_, _, err = s.IssueChild(s.ctx, secret, holder, token.Spec{MaxUses: 2})
	wantReason(t, err, token.ReasonWider)
	sub := token.Request{Requester: "sub", Operation: "op", Paths: []string{"docs/x"}}
	grandSecret, _, err := s.IssueChild(s.ctx, childSecret.Reveal(), token.Request{Requester: "sub"}, token.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = s.IssueChild(s.ctx, secret, holder, token.Spec{}); err != nil { // the last use
		t.Fatal(err)
	}
	_, err = s.Consume(s.ctx, secret, with(func(r *token.Request) { r.Paths = []string{"docs"} }))
	wantReason(t, err, token.ReasonExhausted)
	if _, err := s.Consume(s.ctx, childSecret.Reveal(), sub); err != nil {
		t.Errorf("a child outlives the completion of its parent: %v", err)
	}
	// Revoking the parent, which has ended, still ends the tree.
	if _, n, err := s.Revoke(s.ctx, parent.Accessor, "me", "leaked"); err != nil || n != 3 {
		t.Errorf("%d revoked, %v", n, err)
	}
	for _, secret := range []string{childSecret.Reveal(), grandSecret.Reveal()} {
		_, err = s.Validate(s.ctx, secret, sub)
		wantReason(t, err, token.ReasonRevoked)
	}
	if got := s.show(parent.ID); got.State != token.StateCompleted {
		t.Errorf("parent %+v", got)
	}
}

// What an agent holds ends with it: at once, whatever is stored, and then on record,
// with all that came from it and nothing else.
func TestHolderRevoked(t *testing.T) {
	s := newSite(t)
	ask := token.Request{Requester: "agent", Operation: "op"}
	secret, held := s.issue(nil)
	other, _ := s.issue(func(p *token.Spec) { p.Requester, p.IssuedBy = "other", "agent" })
	spent, parent := s.issue(func(p *token.Spec) { p.MaxUses = 3 })
	once := ask
	once.Key = "once"
	if _, err := s.Consume(s.ctx, spent, once); err != nil {
		t.Fatal(err)
	}
	child, _, err := s.IssueChild(s.ctx, spent, token.Request{Requester: "agent"}, token.Spec{Requester: "sub", MaxUses: 2})
	if err != nil || s.show(parent.ID).State != token.StateCompleted {
		t.Fatalf("%v, %s", err, s.show(parent.ID).State)
	}
	many := token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: "agent", IssuedBy: "test"}
	for range 2 * 50 { // more than one transaction ends
		if _, _, err := s.Issue(s.ctx, many); err != nil {
			t.Fatal(err)
		}
	}
	s.becomes("agent", token.HolderRevoked)

	_, err = s.Validate(s.ctx, secret, ask)
	wantReason(t, err, token.ReasonHolderRevoked)
	_, err = s.Consume(s.ctx, secret, ask)
	wantReason(t, err, token.ReasonHolderRevoked)
	again := ask
	again.Key = "again"
	_, err = s.Consume(s.ctx, secret, again)
	wantReason(t, err, token.ReasonHolderRevoked)
	_, err = s.CheckConsume(s.ctx, secret, ask)
	wantReason(t, err, token.ReasonHolderRevoked)
	_, _, err = s.IssueChild(s.ctx, secret, token.Request{Requester: "agent"}, token.Spec{Requester: "sub"})
	wantReason(t, err, token.ReasonHolderRevoked)
	wantReason(t, s.CheckChild(s.ctx, secret, token.Request{Requester: "agent"}, token.Spec{Requester: "sub"}), token.ReasonHolderRevoked)
	_, _, err = s.Issue(s.ctx, many)
	wantReason(t, err, token.ReasonHolderRevoked)
	wantReason(t, s.Check(many), token.ReasonHolderRevoked)
	_, _, err = s.IssueChild(s.ctx, other, token.Request{Requester: "other"}, token.Spec{Requester: "agent"})
	wantReason(t, err, token.ReasonHolderRevoked)
	wantReason(t, s.CheckChild(s.ctx, other, token.Request{Requester: "other"}, token.Spec{Requester: "agent"}), token.ReasonHolderRevoked)
	if use, err := s.Consume(s.ctx, spent, once); err != nil || !use.Again {
		t.Errorf("a retry of what was done before: %+v, %v", use, err)
	}
	if got := s.show(held.ID); got.State != token.StateActive || got.Uses != 0 {
		t.Errorf("%+v", got)
	}

	if n, err := s.RevokeHeld(s.ctx, "agent", "me", "agent was revoked: stolen"); n != 102 || err != nil {
		t.Errorf("%d revoked, %v", n, err)
	}
	if got := s.show(held.ID); got.State != token.StateRevoked || got.Reason != "agent was revoked: stolen" {
		t.Errorf("%+v", got)
	}
	_, err = s.Validate(s.ctx, child.Reveal(), token.Request{Requester: "sub", Operation: "op"})
	wantReason(t, err, token.ReasonRevoked)
	if _, err := s.Validate(s.ctx, other, token.Request{Requester: "other", Operation: "op"}); err != nil {
		t.Errorf("a token that it has issued to another: %v", err)
	}
	if n, err := s.RevokeHeld(s.ctx, "agent", "me", "again"); n != 0 || err != nil {
		t.Errorf("%d revoked again, %v", n, err)
	}
}

// The tokens of an agent wait while its life is over, and cost nothing meanwhile.
func TestHolderExpired(t *testing.T) {
	s := newSite(t)
	ask := token.Request{Requester: "agent", Operation: "op"}
	secret, held := s.issue(nil)
	child, _, err := s.IssueChild(s.ctx, secret, ask, token.Spec{Requester: "sub", MaxUses: 2})
	if err != nil {
		t.Fatal(err)
	}
	sub := token.Request{Requester: "sub", Operation: "op"}
	s.becomes("agent", token.HolderExpired)

	_, err = s.Validate(s.ctx, secret, ask)
	wantReason(t, err, token.ReasonHolderExpired)
	_, err = s.Consume(s.ctx, secret, ask)
	wantReason(t, err, token.ReasonHolderExpired)
	_, _, err = s.IssueChild(s.ctx, secret, ask, token.Spec{Requester: "sub"})
	wantReason(t, err, token.ReasonHolderExpired)
	_, _, err = s.Issue(s.ctx, token.Spec{Type: token.Todo, Operations: []string{"op"}, Requester: "agent", IssuedBy: "test"})
	wantReason(t, err, token.ReasonHolderExpired)
	if _, err := s.Consume(s.ctx, child.Reveal(), sub); err != nil {
		t.Errorf("what it has handed on: %v", err)
	}
	if got := s.show(held.ID); got.State != token.StateActive || got.Uses != 0 {
		t.Errorf("%+v", got)
	}

	s.becomes("agent", token.HolderLives)
	if use, err := s.Consume(s.ctx, secret, ask); err != nil || use.Uses != 1 {
		t.Errorf("%+v, %v", use, err)
	}
}

func TestRenew(t *testing.T) {
	s := newSite(t)
	secret, tok := s.issue(func(p *token.Spec) { p.Type = token.Test })
	s.pass(10 * time.Minute)
	got, err := s.Renew(s.ctx, tok.Accessor, 0, "me", "")
	if err != nil || got.ExpiresAt.Sub(start) != 25*time.Minute {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = s.Renew(s.ctx, tok.ID, 3*time.Hour, "me", "")
	wantReason(t, err, "TOKEN_MAX_LIFE")
	_, err = s.Renew(s.ctx, tok.ID, time.Minute, "me", "")
	wantReason(t, err, "TOKEN_MAX_LIFE")
	s.pass(14 * time.Minute)
	if _, err := s.Validate(s.ctx, secret, request); err != nil {
		t.Error(err)
	}
	s.pass(time.Minute)
	_, err = s.Renew(s.ctx, tok.ID, 0, "me", "")
	wantReason(t, err, "TOKEN_ENDED")
	if got := s.show(tok.ID); got.State != token.StateExpired || !slices.Contains(actions(got), token.Renewed) {
		t.Errorf("%+v", got)
	}
}

// Expiry is exact without any sweep, and lists say so.
func TestExpiryIsExact(t *testing.T) {
	s := newSite(t)
	secret, tok := s.issue(func(p *token.Spec) { p.TTL = time.Hour })
	s.pass(time.Hour - 1)
	if _, err := s.Consume(s.ctx, secret, request); err != nil {
		t.Errorf("a nanosecond before: %v", err)
	}
	s.pass(1)
	page, err := s.List(s.ctx, token.Filter{States: []token.State{token.StateExpired}})
	if err != nil || len(page.Tokens) != 1 || page.Tokens[0].State != token.StateExpired {
		t.Errorf("%+v, %v", page, err)
	}
	_, err = s.Consume(s.ctx, secret, request)
	wantReason(t, err, token.ReasonExpired)
	if got := s.show(tok.ID); got.State != token.StateExpired || len(got.History) != 3 {
		t.Errorf("%+v", got)
	}
}

// A clock that is set back revives nothing, across restarts too.
func TestClockSetBack(t *testing.T) {
	for name, seen := range map[string]func(s *site, secret string){
		"refused": func(s *site, secret string) {
			_, err := s.Validate(s.ctx, secret, request)
			wantReason(s.t, err, token.ReasonExpired)
		},
		"swept": func(s *site, _ string) {
			if n, err := s.Sweep(s.ctx); err != nil || n != 1 {
				s.t.Errorf("%d, %v", n, err)
			}
		},
		"another write": func(s *site, _ string) { s.issue(nil) },
		"shown": func(s *site, secret string) {
			parsed, err := token.ParseSecret(secret)
			if err != nil || s.show(parsed.Accessor()).State != token.StateExpired {
				s.t.Errorf("it lives; %v", err)
			}
		},
		"listed": func(s *site, _ string) {
			page, err := s.List(s.ctx, token.Filter{})
			if err != nil || len(page.Tokens) != 1 || page.Tokens[0].State != token.StateExpired {
				s.t.Errorf("%+v, %v", page, err)
			}
		},
		"checked": func(s *site, secret string) {
			_, err := s.CheckConsume(s.ctx, secret, request)
			wantReason(s.t, err, token.ReasonExpired)
		},
		"checked for a child": func(s *site, secret string) {
			err := s.CheckChild(s.ctx, secret, request, token.Spec{})
			wantReason(s.t, err, token.ReasonExpired)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			secret, _ := s.issue(func(p *token.Spec) { p.TTL = time.Hour })
			s.pass(time.Hour)
			seen(s, secret)
			s.pass(-50 * time.Minute)
			s.close()
			s.open()
			_, err := s.Validate(s.ctx, secret, request)
			wantReason(t, err, token.ReasonExpired)
			s.pass(time.Hour)
			s.pass(-50 * time.Minute)
			fresh, _ := s.issue(nil)
			_, err = s.Validate(s.ctx, secret, request)
			wantReason(t, err, token.ReasonExpired)
			if _, err := s.Consume(s.ctx, fresh, request); err != nil {
				t.Errorf("what is issued under such a clock: %v", err)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	s := newSite(t)
	for range 3 {
		s.issue(func(p *token.Spec) { p.TTL = time.Minute })
		s.issue(func(p *token.Spec) { p.NotBefore = start.Add(time.Minute) })
	}
	if n, err := s.Sweep(s.ctx); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	s.pass(time.Minute)
	if n, err := s.Sweep(s.ctx); err != nil || n != 6 {
		t.Errorf("%d, %v", n, err)
	}
	page, err := s.List(s.ctx, token.Filter{States: []token.State{token.StateActive}, Limit: 2})
	if err != nil || len(page.Tokens) != 2 || page.Next == "" {
		t.Errorf("%+v, %v", page, err)
	}
}

// Who guesses is told nothing any more, and locks nobody out.
func TestGuessingIsSlowedDown(t *testing.T) {
	s := newSite(t)
	secret, tok := s.issue(nil)
	other, _ := s.issue(nil)
	forged := other[:len(other)-49] // of another host: its form is right
	foreign := newSite(t)
	stranger, _ := foreign.issue(nil)
	var err error
	for range 30 {
		_, err = s.Validate(s.ctx, "guess", request)
	}
	wantReason(t, err, token.ReasonGuessing)
	var answers []string
	for _, guess := range []string{"guess", forged, stranger, strings.Repeat("x", 1<<20)} {
		_, err := s.Consume(t.Context(), guess, request)
		wantReason(t, err, token.ReasonGuessing)
		answers = append(answers, err.Error())
	}
	if len(slices.Compact(answers)) != 1 {
		t.Errorf("refusals differ: %q", answers)
	}
	if _, err := s.Consume(t.Context(), secret, request); err != nil {
		t.Errorf("a valid token beside guesses: %v", err)
	}
	_, err = s.Validate(s.ctx, "guess", request)
	wantReason(t, err, token.ReasonGuessing) // a success forgives nothing
	if _, _, err := s.Revoke(s.ctx, tok.ID, "test", ""); err != nil {
		t.Fatal(err)
	}
	_, err = s.Validate(s.ctx, secret, request)
	wantReason(t, err, token.ReasonRevoked)
	_, err = s.Validate(s.ctx, "guess", with(func(r *token.Request) { r.Source = "elsewhere" }))
	wantReason(t, err, token.ReasonMalformed)
	s.pass(time.Hour)
	_, err = s.Validate(s.ctx, "guess", request)
	wantReason(t, err, token.ReasonMalformed)
}
