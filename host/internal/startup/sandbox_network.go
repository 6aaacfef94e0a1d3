package startup

import (
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/sandbox/egress"
)

// configuredNetwork is where the runs of a profile may go.
func configuredNetwork(n *config.SandboxNetwork) egress.Rules {
	rules := egress.Rules{Allow: targets(n.Allow), AllowPrivate: targets(n.AllowPrivate)}
	for _, c := range n.Credentials {
		rules.Credentials = append(rules.Credentials, egress.Credential{
			Target: targets([]string{c.Target})[0], Private: c.Private, Plain: c.Plain, Header: c.Header, Prefix: c.Prefix,
			Env: c.Env, File: c.File, Variable: c.Variable,
		})
	}
	return rules
}

// targets reads what the configuration has checked. One that is none after all
// is refused with the rules.
func targets(texts []string) []egress.Target {
	var out []egress.Target
	for _, text := range texts {
		target, err := egress.ParseTarget(text)
		if err != nil {
			target = egress.Target{Host: text}
		}
		out = append(out, target)
	}
	return out
}
