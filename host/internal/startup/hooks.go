package startup

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/hook"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/token"
)

// startHooks begins to run what is to be run for what happens.
func (h *host) startHooks(ctx context.Context, undo *closers) {
	h.hooks = hook.New(ctx, hook.Options{
		Events: h.store.Events(), Places: h.store.HookPlaces(), Call: newHookRunner(h).run, Logger: h.logger.Named("hook"),
		Held: func() (bool, <-chan struct{}) {
			changed := h.changed.Wait() // before the look
			return h.halted() != nil, changed
		},
	})
	undo.add(h.hooks.Close)
	h.hooks.Set(configuredHooks(h.loaded.Load().config))
}

func configuredHooks(cfg *config.Config) []hook.Hook {
	out := make([]hook.Hook, len(cfg.Hooks))
	for i, c := range cfg.Hooks {
		out[i] = hook.Hook{Name: c.Name, On: c.On, Protocol: c.Protocol, Operation: c.Operation, Plugin: c.Plugin, Timeout: c.Timeout}
	}
	return append(out, ownersHooks(cfg)...)
}

// ownerTime is how long a protocol may take that is told of the maintenance of what
// it owns.
const ownerTime = 30 * time.Second

// ownersHooks tell protocols of the maintenance of what they own. No configured hook
// has a dot in its name.
func ownersHooks(cfg *config.Config) []hook.Hook {
	var out []hook.Hook
	for _, protocol := range slices.Sorted(maps.Keys(cfg.Maintenance.Operations)) {
		out = append(out, hook.Hook{
			Name: "owner." + protocol, On: []string{"maintenance."}, Owner: "protocol/" + protocol,
			Protocol: protocol, Operation: cfg.Maintenance.Operations[protocol], Timeout: ownerTime,
		})
	}
	return out
}

// toldEvent is what a hook's operation gets.
type toldEvent struct {
	Hook       string            `json:"hook"`
	Revision   int64             `json:"revision"`
	At         time.Time         `json:"at"`
	Kind       string            `json:"kind"`
	Subject    string            `json:"subject"`
	Actor      string            `json:"actor"`
	Outcome    string            `json:"outcome"`
	Reason     string            `json:"reason,omitempty"`
	Workspace  string            `json:"workspace,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// hookGrace is how much longer than its call the token of a hook lives, which is for
// one use.
const hookGrace = time.Minute

// tellHook calls the operation of a hook for one event: as policy permits, under a
// token for this one call, on record as every call.
func (h *host) tellHook(ctx context.Context, k *hook.Hook, e *event.Record) error {
	payload, err := json.Marshal(&toldEvent{
		Hook: k.Name, Revision: e.Revision, At: e.At, Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Outcome: e.Outcome,
		Reason: e.Reason, Workspace: e.Workspace, Attributes: maps.Clone(e.Attributes),
	})
	if err != nil {
		return err
	}
	caller, _ := nexus.CallerFrom(ctx)
	secret, _, err := h.tokens.Issue(ctx, token.Spec{
		Type: token.Operation, Protocol: k.Protocol, Operations: []string{k.Operation}, Requester: caller.Name, TTL: k.Timeout + hookGrace,
		MaxUses: 1, IssuedBy: actorHost, Why: "hook " + k.Name,
	})
	if err != nil {
		return err
	}
	facts := h.door.CallFacts(k.Protocol, k.Operation, nil)
	facts["token_type"] = string(token.Operation)
	if err := h.door.AuthorizeOn(ctx, nexus.PermissionCall, nexus.ProtocolResource(k.Protocol), facts); err != nil {
		return err
	}
	_, _, err = h.door.CallProtocol(ctx, &nexus.ProtocolCall{
		Protocol: k.Protocol, Operation: k.Operation, Payload: payload, Timeout: k.Timeout, Token: secret.Reveal(),
	})
	return err
}
