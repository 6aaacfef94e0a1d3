//go:build !front

package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type policyExplainOptions struct {
	*app
	principal  apiv1.PolicyPrincipal
	action     string
	resource   apiv1.PolicyResource
	attributes []string
	context    []string
	dir        string
}

func (a *app) newPolicyExplainCommand() *cobra.Command {
	o := &policyExplainOptions{app: a}
	cmd := &cobra.Command{
		Use:   "explain --principal NAME --action ACTION",
		Short: "Say whether something would be allowed, and which policies decide",
		Long: `Say whether an agent may do an action on a resource, and which policies decide, with their text. The host is asked, or,
with --dir, the policies of a directory; nothing is done. Exit 0 whether it is allowed or denied.

The host fills in what it knows and is not said: trust, method and groups of an agent that is configured or enrolled, and
the attributes of a patch or a plugin. It says as whom and about what it was asked.`,
		Example: `  sop policy explain --principal bot-7 --action gap.read
  sop policy explain --principal bot-7 --action patch.approve --resource Patch::019cb000
  sop policy explain --principal bot-7 --action protocol.call --resource 'Protocol::uip' --context operation=render --context sandboxed=true
  sop policy explain --principal uid:0 --action plugin.restart --resource Plugin::detector.docs`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.principal.Name, "principal", "", "the agent that asks, by `name`")
	flags.StringVar(&o.principal.Trust, "trust", "", "how far it is trusted, `trust`: system or exterior (default: as the host knows; else exterior)")
	flags.StringVar(&o.principal.Method, "method", "", "the `method` that proved its identity (default: as the host knows; else peer)")
	flags.StringSliceVar(&o.principal.Groups, "group", nil, "`groups` that it is in (default: as the host knows)")
	flags.StringVar(&o.action, "action", "", "what it would do, an `action` such as gap.read")
	flags.StringVar(&o.resource.Entity, "resource", "", "what it would do it on, an `entity` such as Plugin::detector.docs (default: the host as a whole)")
	flags.StringSliceVar(&o.resource.Parents, "in", nil, "what that is in, `entities` such as Workspace::main")
	flags.StringArrayVar(&o.attributes, "attribute", nil, "an attribute of the resource, `name=value`; may be repeated")
	flags.StringArrayVar(&o.context, "context", nil, "something in the context, `name=value`; may be repeated")
	flags.StringVar(&o.dir, "dir", "", "ask the policies of this `directory`, and no host")
	a.completeWords(cmd, "trust", "system", "exterior")
	a.completeWords(cmd, "action", a.engine.actionNames()...)
	return cmd
}

func (o *policyExplainOptions) run(ctx context.Context) error {
	req, err := o.request()
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	answer, err := o.ask(ctx, req)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, wire{answer})
	}
	o.print(answer)
	return nil
}

func (o *policyExplainOptions) request() (*apiv1.ExplainRequest, error) {
	switch {
	case o.principal.Name == "":
		return nil, usagef("--principal is missing").WithRemedy("name the agent, such as uid:1000")
	case o.action == "":
		return nil, usagef("--action is missing").WithRemedy("name what it would do, such as gap.read")
	}
	if id, ok := strings.CutPrefix(o.principal.GetName(), "Agent::"); ok {
		o.principal.Name = strings.Trim(id, `"`)
	}
	var err error
	if o.resource.Attributes, err = pairs("attribute", o.attributes); err != nil {
		return nil, err
	}
	req := &apiv1.ExplainRequest{Principal: &o.principal, Action: o.action, Resource: &o.resource}
	req.Context, err = pairs("context", o.context)
	return req, err
}

// pairs reads name=value.
func pairs(flag string, texts []string) (map[string]string, error) {
	out := make(map[string]string, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--%s: %q is not name=value", flag, text)
		}
		out[name] = value
	}
	return out, nil
}

// ask asks the host, or the policies of a directory.
func (o *policyExplainOptions) ask(ctx context.Context, req *apiv1.ExplainRequest) (*apiv1.ExplainResponse, error) {
	if o.dir != "" {
		answer, diagnostics, err := o.engine.ExplainPolicy(o.policySource(o.dir), req)
		if diagnostics.HasErrors() {
			return nil, o.refused(diagnostics)
		}
		return answer, err
	}
	c := o.connect()
	defer c.Close()
	answer, err := c.policy().Explain(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

func (o *policyExplainOptions) print(r *apiv1.ExplainResponse) {
	palette := o.palette(o.OutTerminal)
	verdict := palette.Paint(term.BoldRed, "denied")
	if r.GetAllow() {
		verdict = palette.Paint(term.Green, "allowed")
	}
	switch {
	case r.GetByDefault():
		o.say("%s: no policy of %s permits it\n", verdict, term.Safe(r.GetSource()))
	case len(r.GetPolicies()) == 0:
		o.say("%s: a policy of %s cannot be evaluated\n", verdict, term.Safe(r.GetSource()))
	default:
		o.say("%s by %s of %s\n", verdict, count(int64(len(r.GetPolicies())), "policy", "policies"), term.Safe(r.GetSource()))
	}
	o.say("  asked by    %s\n", term.Safe(askedBy(r.GetPrincipal())))
	o.say("  asked about %s\n", term.Safe(askedAbout(r.GetResource())))
	for _, p := range r.GetPolicies() {
		o.say("\n%s  %s\n", palette.Paint(term.Bold, term.Safe(p.GetId())), term.Safe(place(p.GetFile(), p.GetLine())))
		for line := range strings.SplitSeq(strings.TrimRight(p.GetText(), "\n"), "\n") {
			o.say("  %s\n", term.Safe(line))
		}
	}
	for _, e := range r.GetErrors() {
		o.say("\n%s %s\n", palette.Paint(term.BoldRed, "cannot be evaluated:"), term.Safe(e))
	}
}

// askedBy says who would ask.
func askedBy(p *apiv1.PolicyPrincipal) string {
	text := p.GetName() + ", " + p.GetTrust() + ", by " + p.GetMethod()
	if groups := p.GetGroups(); len(groups) > 0 {
		text += ", in " + strings.Join(groups, ", ")
	}
	return text
}

// askedAbout says what it would be about.
func askedAbout(r *apiv1.PolicyResource) string {
	parts := []string{r.GetEntity()}
	if parents := r.GetParents(); len(parents) > 0 {
		parts[0] += " in " + strings.Join(parents, ", ")
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetAttributes())) {
		parts = append(parts, name+"="+r.GetAttributes()[name])
	}
	return strings.Join(parts, ", ")
}
