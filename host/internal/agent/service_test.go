package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/sdk"
)

var start = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// site is a service on a database in memory, with a clock that the test moves.
type site struct {
	*agent.Service
	t    testing.TB
	ctx  context.Context
	db   *store.DB
	key  agent.HostKey
	root string

	mu  sync.Mutex
	now time.Time
}

func newSite(t testing.TB) *site {
	t.Helper()
	ctx := context.Background()
	db, err := store.OpenMemory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	key, err := agent.NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, ctx: ctx, db: db, key: key, now: start}
	s.restart()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// restart forgets what is in memory.
func (s *site) restart() {
	s.t.Helper()
	service, err := agent.NewService(s.ctx, s.db.Agents(), agent.Options{Key: s.key, RootFile: s.root, Now: func() time.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.now
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Service = service
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) enroll(spec agent.Spec) string {
	s.t.Helper()
	spec.By = "test"
	k, a, err := s.Enroll(s.ctx, spec)
	if err != nil || k.Accessor() != a.Keys[0].Accessor {
		s.t.Fatalf("%+v, %v", a, err)
	}
	return k.Reveal()
}

func (s *site) rotate(r agent.Rotation) string {
	s.t.Helper()
	r.By = "test"
	k, _, err := s.Rotate(s.ctx, r)
	if err != nil {
		s.t.Fatal(err)
	}
	return k.Reveal()
}

// want asserts who a key is, or why it is refused, both with what is in memory
// and without.
func (s *site) want(key, want string) {
	s.t.Helper()
	for range 2 {
		a, err := s.Authenticate(s.ctx, key)
		var got string
		if e := sdk.FromError(err); e != nil {
			if got = e.Reason; e.Code != codes.Unauthenticated || e.Remedy == "" || a != nil {
				s.t.Errorf("%v, %+v", err, e)
			}
			if len(key) > 40 && strings.Contains(fmt.Sprintf("%+v", err), key[len(key)-30:]) {
				s.t.Errorf("the key is in the error")
			}
		} else {
			got = a.Name
		}
		if got != want {
			s.t.Errorf("got %s, want %s", got, want)
		}
		s.restart()
	}
}

func TestLifeOfAnAgent(t *testing.T) {
	s := newSite(t)
	key := s.enroll(agent.Spec{Name: "agent-7", Groups: []string{"b", "a", "b"}, TTL: 2 * time.Hour})
	a, err := s.Get(s.ctx, "agent-7")
	if err != nil || a.Trust != agent.Exterior || !slices.Equal(a.Groups, []string{"a", "b"}) || a.State != agent.StateActive || a.CreatedBy != "test" {
		t.Errorf("%+v, %v", a, err)
	}
	s.want(key, "agent-7")
	other := s.enroll(agent.Spec{Name: "other", Trust: agent.System})
	at := strings.LastIndex(key, "_") + 1
	s.want(key[:at]+other[at:], agent.ReasonMalformed) // the checksum covers all
	s.want("", agent.ReasonMalformed)
	s.want(strings.Repeat("sopk_", 1<<16), agent.ReasonMalformed)
	stranger := newSite(t).enroll(agent.Spec{Name: "agent-7"})
	s.want(stranger, agent.ReasonUnknown)

	// A rotation with grace, and one without.
	second := s.rotate(agent.Rotation{Name: "agent-7", Grace: time.Hour})
	s.want(key, "agent-7")
	s.want(second, "agent-7")
	s.pass(time.Hour - 1)
	s.want(key, "agent-7")
	s.pass(1)
	s.want(key, agent.ReasonRotated)
	third := s.rotate(agent.Rotation{Name: "agent-7"})
	s.want(second, agent.ReasonRotated)
	s.want(third, "agent-7")

	// Its life ends, and a rotation gives it another.
	s.pass(time.Hour)
	s.want(third, agent.ReasonExpired)
	if a, err := s.Get(s.ctx, "agent-7"); err != nil || a.State != agent.StateExpired {
		t.Errorf("%+v, %v", a, err)
	}
	if _, _, err := s.Rotate(s.ctx, agent.Rotation{Name: "agent-7"}); sdk.FromError(err).Reason != "AGENT_ENDED" {
		t.Errorf("got %v", err)
	}
	for range 2 { // also after a start
		if err := s.Live("agent-7"); sdk.FromError(err).Reason != agent.ReasonExpired || s.Stands("agent-7") != agent.StateExpired {
			t.Errorf("got %v, %v", err, s.Stands("agent-7"))
		}
		s.restart()
	}
	forever := time.Duration(0)
	fourth := s.rotate(agent.Rotation{Name: "agent-7", TTL: &forever})
	s.pass(1000 * time.Hour)
	s.want(fourth, "agent-7")
	s.want(key, agent.ReasonRotated)
	if err := s.Live("agent-7"); err != nil || s.Stands("agent-7") != agent.StateActive {
		t.Errorf("got %v, %v", err, s.Stands("agent-7"))
	}
	s.rotate(agent.Rotation{Name: "other", Grace: time.Minute}) // another agent changes nothing

	for range 2 { // the second time it is no error
		if a, err := s.Revoke(s.ctx, "agent-7", "test", "stolen"); err != nil || a.State != agent.StateRevoked || a.Reason != "stolen" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	s.want(fourth, agent.ReasonRevoked)
	if err := s.Live("agent-7"); sdk.FromError(err).Reason != agent.ReasonRevoked {
		t.Errorf("got %v", err)
	}
	if err := s.Live("other"); err != nil {
		t.Errorf("got %v", err)
	}
	for _, err := range []error{
		s.CheckEnroll(s.ctx, agent.Spec{Name: "agent-7"}), s.CheckEnroll(s.ctx, agent.Spec{Name: "other"}),
	} {
		if sdk.FromError(err).Reason != "AGENT_EXISTS" {
			t.Errorf("got %v", err)
		}
	}
	if err := s.CheckRotate(s.ctx, agent.Rotation{Name: "agent-7"}); sdk.FromError(err).Reason != "AGENT_ENDED" {
		t.Errorf("got %v", err)
	}
}

func TestSpecs(t *testing.T) {
	s := newSite(t)
	for name, spec := range map[string]agent.Spec{
		"empty": {}, "root": {Name: "root"}, "actor": {Name: "host"}, "uid": {Name: "uid:0"}, "upper": {Name: "Agent"}, "long": {Name: strings.Repeat("a", 64)},
		"newline": {Name: "a\n"}, "trust": {Name: "a", Trust: "full"}, "group": {Name: "a", Groups: []string{"corp:admins"}},
		"groups": {Name: "a", Groups: make([]string, 65)}, "negative": {Name: "a", TTL: -1}, "endless": {Name: "a", TTL: 1 << 62},
		"why": {Name: "a", Why: strings.Repeat("x", 1025)}, "a key as reason": {Name: "a", Why: "was sopk_0"},
	} {
		_, _, err := s.Enroll(s.ctx, spec)
		e := sdk.FromError(err)
		if e == nil || e.Reason != "AGENT_REQUEST" || e.Remedy == "" || len(e.Fields) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if check := s.CheckEnroll(s.ctx, spec); fmt.Sprint(check) != fmt.Sprint(err) {
			t.Errorf("%s: the check says %v", name, check)
		}
	}
	if page, err := s.List(s.ctx, agent.Filter{}); err != nil || len(page.Agents) > 0 {
		t.Errorf("%+v, %v", page, err)
	}
	for _, r := range []agent.Rotation{{Name: "a", Grace: -1}, {Name: "a", Grace: 31 * 24 * time.Hour}, {Name: "a", Why: "sopk_"}} {
		if err := s.CheckRotate(s.ctx, r); sdk.FromError(err).Reason != "AGENT_REQUEST" {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := s.Revoke(s.ctx, "nobody", "test", ""); !errors.Is(err, agent.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// However agents are enrolled, rotated and revoked, whose key is good is what a
// simple model says.
func TestKeysAgreeWithAModel(t *testing.T) {
	s := newSite(t)
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		type model struct {
			owner string
			ends  time.Time // zero: not rotated
		}
		keys := make(map[string]*model)
		revoked := make(map[string]bool)
		names := []string{fmt.Sprint("a", round), fmt.Sprint("b", round)}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			who := rapid.SampledFrom(names).Draw(r, "who")
			switch rapid.IntRange(0, 4).Draw(r, "step") {
			case 0:
				if k, _, err := s.Enroll(s.ctx, agent.Spec{Name: who}); err == nil {
					keys[k.Reveal()] = &model{owner: who}
				}
			case 1, 2:
				grace := time.Duration(rapid.IntRange(0, 3).Draw(r, "grace")) * time.Minute
				if k, _, err := s.Rotate(s.ctx, agent.Rotation{Name: who, Grace: grace}); err == nil {
					for _, m := range keys {
						if end := s.now.Add(grace); m.owner == who && (m.ends.IsZero() || m.ends.After(end)) {
							m.ends = end
						}
					}
					keys[k.Reveal()] = &model{owner: who}
				}
			case 3:
				if rapid.IntRange(0, 5).Draw(r, "revoke") == 0 {
					if _, err := s.Revoke(s.ctx, who, "test", ""); err == nil {
						revoked[who] = true
					}
				}
			case 4:
				s.pass(time.Minute)
			}
			for k, m := range keys {
				want := !revoked[m.owner] && (m.ends.IsZero() || s.now.Before(m.ends))
				if a, err := s.Authenticate(s.ctx, k); (err == nil) != want || err == nil && a.Name != m.owner {
					r.Fatalf("%+v is good: %v; got %+v, %v", m, want, a, err)
				}
			}
		}
	})
}

// Revocation is effective at once, for callers who have the agent in memory.
func TestRevocationIsEffectiveAtOnce(t *testing.T) {
	s := newSite(t)
	for i := range 30 {
		name := fmt.Sprint("agent", i)
		key := s.enroll(agent.Spec{Name: name})
		done := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						if _, err := s.Authenticate(s.ctx, key); err == nil {
							t.Error("good after it was revoked")
						}
						return
					default:
						_, _ = s.Authenticate(s.ctx, key) // either way
					}
				}
			})
		}
		if _, err := s.Revoke(s.ctx, name, "test", ""); err != nil {
			t.Error(err)
		}
		close(done)
		wg.Wait()
	}
}

func TestLastUseIsStored(t *testing.T) {
	s := newSite(t)
	key := s.enroll(agent.Spec{Name: "a"})
	if a, err := s.Get(s.ctx, "a"); err != nil || !a.LastUsed.IsZero() {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := s.Authenticate(s.ctx, key); err != nil {
		t.Fatal(err)
	}
	for range 2 { // before it is stored, and after
		if a, err := s.Get(s.ctx, "a"); err != nil || !a.LastUsed.Equal(start) {
			t.Errorf("%+v, %v", a, err)
		}
		if page, err := s.List(s.ctx, agent.Filter{}); err != nil || len(page.Agents) != 1 || !page.Agents[0].LastUsed.Equal(start) {
			t.Errorf("%+v, %v", page, err)
		}
		if err := s.Flush(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRootCredential(t *testing.T) {
	s := newSite(t)
	s.root = filepath.Join(t.TempDir(), "root.credential")
	s.restart()
	content := func() string {
		t.Helper()
		text, err := os.ReadFile(s.root)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	ensure := func(want string) {
		t.Helper()
		wrong, err := s.EnsureRoot(s.ctx)
		if err != nil || (wrong == nil) != (want == "") || wrong != nil && (!strings.Contains(wrong.Error(), want) || sdk.FromError(wrong).Remedy == "") {
			t.Errorf("%v, %v, want %q", wrong, err, want)
		}
	}
	ensure("")
	first := content()
	s.want(first, agent.Root)
	if info, err := os.Stat(s.root); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	ensure("")
	if content() != first {
		t.Error("it was overwritten")
	}
	if err := os.Chmod(s.root, 0o640); err != nil {
		t.Fatal(err)
	}
	ensure("its mode is")
	if _, err := s.Revoke(s.ctx, agent.Root, "test", ""); sdk.FromError(err).Reason != "AGENT_BUILT_IN" {
		t.Errorf("revoked: %v", err)
	}
	if k := s.rotate(agent.Rotation{Name: agent.Root}); k != "" {
		t.Error("the key of root is in the answer")
	}
	ensure("")
	s.want(first, agent.ReasonRotated)
	s.want(content(), agent.Root)
	if err := os.WriteFile(s.root, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ensure("another key")
	if content() != first {
		t.Error("it was overwritten")
	}
	if err := os.Remove(s.root); err != nil {
		t.Fatal(err)
	}
	ensure("is gone")
	s.rotate(agent.Rotation{Name: agent.Root})
	ensure("")

	// A host that was killed between file and database enrolls what is there.
	fresh := newSite(t)
	fresh.root = s.root
	fresh.restart()
	if wrong, err := fresh.EnsureRoot(fresh.ctx); wrong != nil || err != nil {
		t.Errorf("%v, %v", wrong, err)
	}
	fresh.want(content(), agent.Root)
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.root), ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("sopk_")
	f.Add(newSite(f).enroll(agent.Spec{Name: "a"}))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := agent.ParseKey(text)
		if err == nil && (k.Reveal() != text || !strings.HasPrefix(text, agent.Prefix)) {
			t.Errorf("took %q", text)
		}
		if err != nil && (k != agent.Secret{} || len(text) > 20 && strings.Contains(err.Error(), text)) {
			t.Error("an error with a key")
		}
	})
}

// doubtful is a store whose commits are made, and then said to have failed.
type doubtful struct {
	agent.Store
	fail bool
}

var errDoubt = errors.New("the disk did not say")

func (d *doubtful) Update(ctx context.Context, fn func(tx agent.Tx) error) error {
	if err := d.Store.Update(ctx, fn); err != nil || !d.fail {
		return err
	}
	return errDoubt
}

// Where nobody knows whether a revocation was committed, the agent is refused:
// its keys, and what the configuration maps to its name.
func TestRevocationInDoubtRefuses(t *testing.T) {
	s := newSite(t)
	d := &doubtful{Store: s.db.Agents()}
	service, err := agent.NewService(s.ctx, d, agent.Options{Key: s.key})
	if err != nil {
		t.Fatal(err)
	}
	k, _, err := service.Enroll(s.ctx, agent.Spec{Name: "ci", By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Live("ci"); err != nil {
		t.Fatal(err)
	}
	d.fail = true
	if _, err := service.Revoke(s.ctx, "ci", "test", "stolen"); !errors.Is(err, errDoubt) {
		t.Fatalf("got %v", err)
	}
	if err := service.Live("ci"); sdk.FromError(err).Reason != agent.ReasonRevoked {
		t.Errorf("what is mapped to it: %v", err)
	}
	if _, err := service.Authenticate(s.ctx, k.Reveal()); sdk.FromError(err).Reason != agent.ReasonRevoked {
		t.Errorf("its key: %v", err)
	}
	d.fail = false
	if a, err := service.Revoke(s.ctx, "ci", "test", ""); err != nil || a.Reason != "stolen" {
		t.Errorf("%+v, %v", a, err)
	}
}
