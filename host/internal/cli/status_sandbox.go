package cli

import (
	"fmt"
	"strings"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// statusSandbox says which level each profile gets; nothing where none is
// needed.
func (a *app) statusSandbox(b *strings.Builder, s *apiv1.SandboxStatus) {
	if s == nil {
		return
	}
	if s.GetProblem() != "" {
		fmt.Fprintf(b, "\nsandbox  %s\n", term.Safe(s.GetProblem()))
		return
	}
	palette := a.palette(a.OutTerminal)
	var words []string
	for _, p := range s.GetProfiles() {
		if p.GetGets() != "" {
			words = append(words, fmt.Sprintf("%s %s", term.Safe(p.GetName()), palette.Paint(term.Green, term.Safe(p.GetGets()))))
			continue
		}
		words = append(words, fmt.Sprintf("%s %s (%s: %s)", term.Safe(p.GetName()), palette.Paint(term.Red, "refused"), term.Safe(p.GetWants()), term.Safe(p.GetWhy())))
	}
	fmt.Fprintf(b, "\nsandbox  %s\n", strings.Join(words, ", "))
}
