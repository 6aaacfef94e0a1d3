package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// protocolModes are the modes that a protocol is activated in.
var protocolModes = []string{"active", "passive"}

func (a *app) newProtocolCommand() *cobra.Command {
	return a.newGroup("protocol", "Call the protocols of the stack, and take them in and out of service",
		`A protocol is a peer of the host in the stack, such as ARP, SCP or UIP, which a protocol plugin reaches. All that is
asked of one goes through the host: it decides by policy, takes a use of a token, and records what came of it.`,
		a.newProtocolListCommand(), a.newProtocolShowCommand(), a.newProtocolCallCommand(), a.newProtocolActivateCommand(), a.newProtocolDeactivateCommand())
}

// printProtocol writes one protocol with all there is to know.
func (a *app) printProtocol(p *apiv1.ProtocolStatus) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"protocol": {p}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s\n", palette.Paint(term.Bold, term.Safe(p.GetName())), palette.Paint(protocolStyle(p.GetState()), term.Safe(p.GetState())))
	for _, f := range a.protocolFields(p) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	return nil
}

func (a *app) protocolFields(p *apiv1.ProtocolStatus) [][2]string {
	fields := [][2]string{
		{"since", joinNonEmpty(", ", ago(a.now(), p.GetSince()), p.GetReason())},
		{"wanted", joinNonEmpty(" by ", p.GetWanted(), p.GetBy())},
		{"activation", p.GetActivation()},
		{"depends on", strings.Join(p.GetDependsOn(), ", ")},
		{"self-test", p.GetSelfTest()},
		{"calls", fmt.Sprintf("%d (%d failed, %d turned away, %d in flight, %d waiting)", p.GetCalls(), p.GetFailures(), p.GetRefused(), p.GetInFlight(), p.GetWaiting())},
		{"operations", strings.Join(p.GetOperations(), ", ")},
		{"detail", p.GetDetail()},
	}
	if p.GetLastCall() != nil {
		fields = append(fields, [2]string{"last call", ago(a.now(), p.GetLastCall())})
	}
	var counted []string
	for _, name := range slices.Sorted(maps.Keys(p.GetCounters())) {
		counted = append(counted, fmt.Sprintf("%s %d", name, p.GetCounters()[name]))
	}
	return append(fields, [2]string{"counted", strings.Join(counted, ", ")}, [2]string{"error", p.GetError()}, [2]string{"remedy", p.GetRemedy()})
}

func protocolStyle(state string) term.Style {
	switch state {
	case "active", "passive":
		return term.Green
	case "failed":
		return term.Red
	case "inactive":
		return term.Faint
	}
	return term.Yellow
}
