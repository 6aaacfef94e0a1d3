package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// The degrees of trust and the states of agents, as the API names them.
var (
	agentTrusts = []string{"exterior", "system"}
	agentStates = []string{"active", "expired", "revoked"}
)

func (a *app) newAgentCommand() *cobra.Command {
	return a.newGroup("agent", "Enroll those who may call the host",
		`An agent is a caller with an identity: system agents are trusted in full, exterior ones as far as policy lets
them. Its key is shown once, when it is enrolled or rotated, and says who calls: put it in a file for
--credential-file, or in $SOP_CREDENTIAL. Agents that prove themselves by a uid, a client certificate or a token of an
OIDC issuer stand in the configuration.`,
		a.newAgentEnrollCommand(), a.newAgentListCommand(), a.newAgentShowCommand(),
		a.newAgentRotateCommand(), a.newAgentRevokeCommand(), a.newAgentWhoAmICommand())
}

// agentArguments checks the argument of commands that name an agent.
var agentArguments = withoutSecrets(arguments(1, 1, "NAME"))

type madeKey struct {
	Key   string `json:"key"`
	Agent wire   `json:"agent"`
}

// printKey writes what was made: the key alone to standard output, so that it
// can go straight to where it is kept, and the rest to people.
func (a *app) printKey(key string, record *apiv1.AgentRecord) error {
	if a.json() {
		if err := printJSON(a.Out, madeKey{key, wire{record}}); err != nil {
			return err
		}
	} else {
		a.say("%s\n", key)
		a.note("%s agent %s, %s\n", term.Safe(record.GetTrust()), term.Safe(record.GetName()), untilOf(record.GetExpiresAt()))
	}
	a.note("%s the key is shown this once and is kept nowhere; put it where only its user can read it\n",
		a.palette(a.ErrTerminal).Paint(term.Yellow, "warning:"))
	return nil
}

func untilOf(t *timestamppb.Timestamp) string {
	if t == nil {
		return "without end"
	}
	return "until " + clockTime(t)
}

// printAgent writes one agent with all there is to know.
func (a *app) printAgent(r *apiv1.AgentRecord) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"agent": {r}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s agent %s\n", palette.Paint(agentStyle(r.GetState()), term.Safe(r.GetState())), term.Safe(r.GetTrust()),
		palette.Paint(term.Bold, term.Safe(r.GetName())))
	for _, f := range [][2]string{
		{"groups", strings.Join(r.GetGroups(), ", ")},
		{"reason", r.GetReason()},
		{"enrolled", ago(a.now(), r.GetCreatedAt()) + " by " + r.GetCreatedBy()},
		{"expires", expiryOf(r)},
		{"last used", lastUse(a, r)},
	} {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	a.say("\nkeys\n")
	for _, k := range r.GetKeys() {
		line := k.GetCreatedAt().AsTime().Format("2006-01-02 15:04:05") + "  " + k.GetAccessor()
		if k.GetEndsAt() != nil {
			line += "  replaced; ends " + clockTime(k.GetEndsAt())
		}
		a.say("  %s\n", term.Safe(line))
	}
	return nil
}

func expiryOf(r *apiv1.AgentRecord) string {
	if r.GetExpiresAt() == nil {
		return "never"
	}
	return clockTime(r.GetExpiresAt())
}

func lastUse(a *app, r *apiv1.AgentRecord) string {
	if r.GetLastUsed() == nil {
		return "never"
	}
	return ago(a.now(), r.GetLastUsed())
}

func agentStyle(state string) term.Style {
	switch state {
	case "active":
		return term.Green
	case "expired":
		return term.Yellow
	}
	return term.Red
}
