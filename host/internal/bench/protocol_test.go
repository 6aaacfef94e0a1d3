package bench

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	hostprotocol "github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/heap"
	"github.com/sop-host/sop/sdk/protocol"
)

// benchGrants gives out nothing.
type benchGrants struct{}

func (benchGrants) Test(context.Context, string, string) (string, func(), error) {
	return "", func() {}, nil
}

func (benchGrants) Service(context.Context, string) (string, time.Duration, func(), error) {
	return "", 0, func() {}, nil
}

func (benchGrants) Call(context.Context, string, []string, time.Duration) (string, string, func(), error) {
	return "", "", func() {}, nil
}

// checking takes no uses: it looks whether one could be taken.
type checking struct{ *token.Service }

// Consume implements nexus.Tokens.
func (c checking) Consume(ctx context.Context, secret string, req token.Request) (token.Use, error) {
	_, err := c.CheckConsume(ctx, secret, req)
	return token.Use{}, err
}

// TestBenchProtocol: a call through the nexus, with authentication, policy, token
// and audit, against the same call through bare go-plugin, at a crowd of callers.
// What the durable use of a token costs is told apart.
func TestBenchProtocol(t *testing.T) {
	wanted(t)
	pool := newPool(t, nil)
	if err := pool.Start(t.Context(), []*plugin.Spec{newSpec(t)}); err != nil {
		t.Fatal(err)
	}
	bare, process := startBare(t, true, true)
	barePID, err := strconv.Atoi(process.ID())
	if err != nil {
		t.Fatal(err)
	}
	ourPID := pool.Status()[0].PID
	service, err := hostprotocol.NewService(hostprotocol.Options{
		Client: func(name string) pluginv1.ProtocolClient {
			return protocol.Kind.NewClient(pool.Conn("protocol." + name))
		},
		Generation: func(string) int { return 1 }, Grants: benchGrants{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	service.Apply([]hostprotocol.Settings{{
		Name: "bench", Activation: hostprotocol.Always, Mode: hostprotocol.Active, Timeout: time.Minute, Drain: time.Second, InFlight: crowd, Queue: crowd,
		MaxPayload: 1 << 20, MaxResult: 1 << 20,
	}})
	v := newVault(t, nil)
	whole, free := benchDoor(t, v.db, service, v.Service), benchDoor(t, v.db, service, checking{v.Service})
	payload := []byte(`"0123456789abcdef"`)
	secret, _, err := v.Issue(t.Context(), token.Spec{
		Type: token.Operation, Protocol: "bench", Operations: []string{"echo"}, Requester: "caller", IssuedBy: "bench", MaxUses: 1_000_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	through := func(d *door) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error { return d.call(ctx, secret.Reveal(), payload) }
	}
	floor := func(ctx context.Context, _ int) error {
		_, err := bare.Handle(ctx, &pluginv1.HandleRequest{Call: &pluginv1.Call{Operation: "echo", Payload: payload}})
		return err
	}
	cost := func(pid int, fn func(context.Context, int) error) float64 {
		before := ownCPU() + cpuOf(t, pid)
		rate := measure(t, crowd, spell, fn).rate
		return float64(ownCPU()+cpuOf(t, pid)-before) / (rate * spell.Seconds())
	}
	ours := func(d *door) float64 {
		defer heap.Floor(heap.Host)() // as in a host; the bare call is made by a program as it comes
		return cost(ourPID, through(d))
	}
	ours(whole) // it comes into service
	var routed, withUse []float64
	var base float64
	for range rounds {
		base = cost(barePID, floor)
		routed = append(routed, ours(free)/base)
		withUse = append(withUse, ours(whole)/base)
	}
	say(t, "protocol call through the nexus / bare plugin", middle(routed), "≤ 2×", "CPU of both sides, %d callers, audit on; bare %.0f µs (%s)", crowd, base/1e3, spread(routed))
	say(t, "  with the durable use of the token", middle(withUse), "-", "%s", spread(withUse))
}

// door is the host's door, as a caller with an enrolled key comes to it.
type door struct {
	*nexus.Nexus
	agents *agent.Service
	key    string
}

func benchDoor(t *testing.T, db *store.DB, service *hostprotocol.Service, tokens nexus.Tokens) *door {
	t.Helper()
	dir := t.TempDir()
	auditKey, err := audit.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: auditKey})
	if err != nil {
		t.Fatal(err)
	}
	key, err := agent.LoadHostKey(filepath.Join(dir, "agent.key"))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
	})
	agents, err := agent.NewService(t.Context(), memory.Agents(), agent.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := agents.Enroll(t.Context(), agent.Spec{Name: "caller", Trust: agent.System, By: "bench"})
	if err != nil {
		t.Fatal(err)
	}
	return &door{&nexus.Nexus{Protocols: service, Tokens: tokens, Audit: log, Agents: agents, Logger: quiet()}, agents, secret.Reveal()}
}

// call does what the API does with a call.
func (d *door) call(ctx context.Context, secret string, payload []byte) error {
	who, err := d.agents.Authenticate(ctx, d.key)
	if err != nil {
		return err
	}
	ctx = nexus.WithCaller(ctx, nexus.AgentCaller(who))
	ctx = audit.WithPayload(ctx, audit.NewPayload(func() ([]byte, error) { return payload, nil }))
	ctx, presented, err := d.WithPresented(ctx, nexus.PermissionCall, secret)
	if err != nil {
		return err
	}
	facts := d.CallFacts("bench", "echo", nil)
	facts["token_type"] = string(presented.Type)
	if err := d.AuthorizeOn(ctx, nexus.PermissionCall, nexus.ProtocolResource("bench"), facts); err != nil {
		return err
	}
	_, _, err = d.CallProtocol(ctx, &nexus.ProtocolCall{Protocol: "bench", Operation: "echo", Payload: payload})
	return err
}
