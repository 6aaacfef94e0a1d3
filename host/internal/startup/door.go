package startup

import "github.com/sop-host/sop/host/internal/nexus"

// newDoor makes the one door that all requests come through.
func (h *host) newDoor() (*nexus.Nexus, error) {
	scaffolds, err := Scaffolds("")
	if err != nil {
		return nil, err
	}
	return &nexus.Nexus{
		Host:        h,
		Plugins:     h.pool,
		Workspaces:  h.workspaces,
		Gaps:        h.gaps,
		Tasks:       h.tasks,
		Patches:     h.patches,
		Components:  h.components,
		Emergency:   h.emergency,
		Backups:     h.backups,
		Maintenance: h.maintenance,
		Scaffolds:   scaffolds,
		Tokens:      h.theTokens(),
		Agents:      h.agents,
		Audit:       &meteredAudit{h.audit, h.metrics, h.maintained, &h.verified},
		Looks:       h.looks,
		Events:      h.store.Events(),
		Protocols:   h.protocols,
		Runs:        runs{h},
		Sinks:       h.ship,
		Retention:   h.retention,
		Policy:      &h.policy,
		Logger:      h.logger.Named("nexus"),
		OnDenied:    h.metrics.Denied,
	}, nil
}
