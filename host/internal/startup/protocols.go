package startup

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/token"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	sdkprotocol "github.com/sop-host/sop/sdk/protocol"
)

const (
	// serviceUses is how many requests a protocol may make of the host while it is
	// in service, and callUses how many calls of others within one call.
	serviceUses = 100_000
	callUses    = 256
	// tokenEndTime bounds taking a token back.
	tokenEndTime = 10 * time.Second
)

// protocolID is what the pool calls the plugin of a protocol.
func protocolID(name string) string { return sdkprotocol.Kind.Name + "." + name }

// openProtocols makes the service of protocols; the pool and the tokens are there.
func (h *host) openProtocols(undo *closers) error {
	var err error
	h.protocols, err = protocol.NewService(protocol.Options{
		Client: func(name string) pluginv1.ProtocolClient {
			return sdkprotocol.Kind.NewClient(h.pool.Conn(protocolID(name)))
		},
		Generation: func(name string) int { return servingGeneration(h.pool, protocolID(name)) },
		Grants:     &protocolGrants{h}, Maintenance: h.maintained, Components: h.components,
		OnChange:  h.onProtocolChange,
		Snapshots: h.dir.join("file_management", "payloads"),
		Logger:    h.logger.Named("protocol"),
	})
	if err != nil {
		return err
	}
	undo.add(h.protocols.Close)
	return nil
}

// servingGeneration is the number of the generation in service, 0 for none.
func servingGeneration(pool *plugin.Pool, id string) int {
	for _, s := range pool.Status() {
		if s.ID == id && s.PID != 0 {
			return s.Generation
		}
	}
	return 0
}

// admit judges the next generation of a plugin before it is put in service.
func (h *host) admit(ctx context.Context, id string, generation int, conn grpc.ClientConnInterface) error {
	name, ok := strings.CutPrefix(id, protocolID(""))
	if !ok || h.protocols == nil {
		return nil
	}
	return h.protocols.Admit(ctx, name, generation, sdkprotocol.Kind.NewClient(conn))
}

// lostPlugin tells who cares that a plugin's process has ended by itself.
func (h *host) lostPlugin(e plugin.Event) {
	name, ok := strings.CutPrefix(e.ID, protocolID(""))
	if ok && h.protocols != nil && (e.Phase == "exited" || e.Phase == "unhealthy") {
		h.protocols.Lost(name)
	}
}

// onProtocolChange puts a change on the timeline and on record. It does not block.
func (h *host) onProtocolChange(c protocol.Changed) {
	phases := map[protocol.State]string{
		protocol.StateActive: "ready", protocol.StatePassive: "ready", protocol.StateInactive: "stopped", protocol.StateFailed: "failed",
	}
	phase := phases[c.To]
	if phase == "" {
		phase = string(c.To)
	}
	h.steps.add(Step{Component: "protocol " + c.Protocol, Phase: phase, Detail: c.Why, After: h.protocolAfter(c.Protocol)})
	h.changed.Tell()
	actions := map[protocol.State]struct {
		action  string
		outcome audit.Outcome
	}{
		protocol.StateActive: {"protocol.activate", audit.Success}, protocol.StatePassive: {"protocol.activate", audit.Success},
		protocol.StateInactive: {"protocol.deactivate", audit.Success}, protocol.StateFailed: {"protocol.activate", audit.Failure},
	}
	a, listed := actions[c.To]
	if !listed {
		return
	}
	h.facts.Record(audit.Record{
		Time: c.At, Actor: c.By, Action: a.action, Resource: "protocol/" + c.Protocol, Outcome: a.outcome, Reason: c.Why,
		Attributes: map[string]string{"from": string(c.From), "to": string(c.To)},
	})
	h.publisher().Publish(c)
}

// protocolAfter are what a protocol waits for: its plugin, and the protocols that it
// depends on.
func (h *host) protocolAfter(name string) []string {
	after := []string{"plugin " + protocolID(name)}
	loaded := h.loaded.Load()
	if loaded == nil {
		return after
	}
	for i := range loaded.config.Protocols {
		if p := &loaded.config.Protocols[i]; p.Name == name {
			for _, other := range p.DependsOn {
				after = append(after, "protocol "+other)
			}
		}
	}
	return after
}

// protocolSettings are the settings of the protocols in a configuration.
func protocolSettings(cfg *config.Config) []protocol.Settings {
	out := make([]protocol.Settings, 0, len(cfg.Protocols))
	for i := range cfg.Protocols {
		p := &cfg.Protocols[i]
		set := protocol.Settings{
			Name: p.Name, Activation: protocol.Activation(p.Activation), Mode: protocol.Mode(p.Mode), IdleStop: p.IdleStop,
			DependsOn: p.DependsOn, Components: p.Components, Timeout: p.Timeout, Drain: cfg.Host.DrainTimeout,
			InFlight: p.InFlight, Queue: p.Queue, MaxPayload: int(p.MaxPayload), MaxResult: int(p.MaxResult),
			Sandboxed: p.Sandboxed, Calls: p.Calls,
		}
		if t := p.SelfTest; t != nil {
			set.SelfTest = &protocol.SelfTest{Operation: t.Operation, Payload: t.Payload, Expect: t.Expect, Timeout: t.Timeout}
		}
		if k := p.Payloads; k != nil {
			set.Snapshots = &protocol.Snapshots{Operations: k.Operations, Keep: k.Keep, MaxTotal: k.MaxTotal}
		}
		out = append(out, set)
	}
	return out
}

// checkProtocols finds what only shows when the shapes are read.
func checkProtocols(cfg *config.Config) config.Diagnostics {
	var diags config.Diagnostics
	for i := range cfg.Protocols {
		t := cfg.Protocols[i].SelfTest
		if t == nil || len(t.Expect) == 0 {
			continue
		}
		if err := protocol.CheckShape(t.Expect); err != nil {
			diags = append(diags, cfg.Problem(t.ExpectSource, "The expected answer has no shape", err.Error()+"."))
		}
	}
	return diags
}

// protocolGrants gives tokens to the plugins of protocols.
type protocolGrants struct{ *host }

// Test implements [protocol.Grants].
func (g *protocolGrants) Test(ctx context.Context, name, operation string) (string, func(), error) {
	secret, end, _, err := g.issue(ctx, token.Spec{
		Type: token.Test, Protocol: name, Operations: []string{operation}, Requester: nexus.PluginName(protocolID(name)),
		MaxUses: 1, Why: "self-test of protocol " + name,
	})
	if err != nil {
		return "", nil, err
	}
	_, err = g.tokens.Consume(ctx, secret, token.Request{
		Requester: nexus.PluginName(protocolID(name)), Protocol: name, Operation: operation, Source: actorHost,
	})
	if err != nil {
		end()
		return "", nil, err
	}
	return secret, func() {}, nil // its one use is taken
}

// Service implements [protocol.Grants].
func (g *protocolGrants) Service(ctx context.Context, name string) (string, time.Duration, func(), error) {
	limits := g.loaded.Load().config.Tokens[string(token.Operation)]
	secret, end, _, err := g.issue(ctx, token.Spec{
		Type: token.Operation, Protocol: nexus.ProtocolSOP, Operations: []string{"audit.append", "maintenance.file", "scaffold.read"},
		Requester: nexus.PluginName(protocolID(name)), TTL: limits.MaxLife, MaxLife: limits.MaxLife, MaxUses: min(serviceUses, limits.MostUses),
		Why: "protocol " + name + " is in service",
	})
	return secret, limits.MaxLife, end, err
}

// Call implements [protocol.Grants].
func (g *protocolGrants) Call(ctx context.Context, name string, operations []string, life time.Duration) (secret, accessor string, end func(), err error) {
	limits := g.loaded.Load().config.Tokens[string(token.Operation)]
	life = min(life, limits.MaxLife)
	secret, end, accessor, err = g.issue(ctx, token.Spec{
		Type: token.Operation, Operations: operations, Requester: nexus.PluginName(protocolID(name)),
		TTL: life, MaxLife: life, MaxUses: min(callUses, limits.MostUses), Why: "a call of protocol " + name,
	})
	return secret, accessor, end, err
}

func (g *protocolGrants) issue(ctx context.Context, spec token.Spec) (secret string, end func(), accessor string, err error) {
	spec.IssuedBy = actorHost
	s, t, err := g.tokens.Issue(ctx, spec)
	if err != nil {
		return "", nil, "", err
	}
	g.metrics.TokenIssued(string(t.Type))
	return s.Reveal(), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenEndTime)
		defer cancel()
		if _, _, err := g.tokens.Revoke(ctx, t.ID, actorHost, spec.Why+": ended"); err != nil {
			g.logger.Warn("take back the token of a protocol; it expires by itself", "token", t.Accessor, "error", err)
		}
	}, t.Accessor, nil
}
