package nexus

import (
	"context"

	"github.com/sop-host/sop/host/internal/token"
)

// MethodPlugin is proof by the mutual TLS under which the host started a
// plugin.
const MethodPlugin Method = "plugin"

// GroupPlugins is the group of all plugins.
const GroupPlugins = "plugins"

// PluginName is what a plugin is called as an agent; id is "detector.docs".
func PluginName(id string) string { return "plugin:" + id }

// PluginCaller is a plugin that asks something of the host. It is an exterior
// agent, whoever wrote it: what it may do, it may by policy and token.
func PluginCaller(id string) Caller {
	return Caller{Name: PluginName(id), Trust: Exterior, Method: MethodPlugin, Groups: []string{GroupPlugins}, Source: PluginName(id)}
}

// ProtocolSOP is the protocol of what the host does itself, in tokens.
const ProtocolSOP = "sop"

// UnderToken takes a use of the token that a plugin presents for what
// permission names, in a workspace unless that is empty, and returns the
// accessor. Where the token is for a task, that is what the plugin works on: it
// need not say so.
func (n *Nexus) UnderToken(ctx context.Context, secret, permission, workspace string) (accessor string, err error) {
	c, _ := CallerFrom(ctx)
	var use token.Use
	t, err := n.Tokens.Validate(ctx, secret, token.Request{Requester: c.Name, Source: c.Name, NamedOnly: true})
	if err == nil {
		use, err = n.Tokens.Consume(ctx, secret, token.Request{
			Requester: c.Name, Protocol: ProtocolSOP, Operation: permission, Task: t.Task, Workspace: workspace, Source: c.Name,
		})
	}
	if err != nil {
		return "", n.TokenRefused(ctx, permission, secret, err)
	}
	return use.Accessor, nil
}
