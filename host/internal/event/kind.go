package event

import (
	"maps"
	"slices"
	"strings"
)

// kinds are the kinds of events that the host makes, by noun. A plugin may add
// events of its own to those of plugins: "plugin." and whatever it calls them.
var kinds = map[string][]string{
	"agent":       {"enroll", "revoke", "rotate"},
	"api":         {"certificates"},
	"audit":       {"archive", "lost", "sink"},
	"backup":      {"delete", "found", "lost", "pin", "prune", "restore", "save", "scheduled", "unpin", "verify"},
	"component":   {"adopt", "exit", "start", "stop", "unready"},
	"config":      {"reload"},
	"gap":         {"acknowledge", "in_progress", "open", "reopen", "resolved", "suppress", "ticketed", "verifying"},
	"host":        {"emergency_stop", "rekey", "resume", "start", "stop"},
	"maintenance": {"closed", "filed", "raised", "routed"},
	"patch": {
		"approved", "backed_up", "consented", "denied", "integrated", "integrating", "lost", "proposed", "rejected", "reopened",
		"rollback_refused", "rolled_back", "rolling_back", "superseded", "tightened", "undone", "verified", "verifying",
		"withdrawn",
	},
	"plugin":   {"exit", "retire", "start", "stop", "unhealthy"},
	"protocol": {"activate", "call", "deactivate"},
	"task": {
		"approved", "awaiting_approval", "blocked", "cancelled", "claimed", "created", "dead", "denied", "done", "failed", "integrated",
		"integrating", "lost", "opened", "pinned", "proposed", "released", "retried", "returned", "rolled_back", "routed", "started",
		"unpinned", "verifying",
	},
	"store":     {"writable"},
	"token":     {"activated", "completed", "delegated", "expired", "issued", "renewed", "revoked"},
	"workspace": {"scan"},
}

// Kinds returns the kinds of events that the host makes, such as "task.failed",
// sorted.
func Kinds() []string {
	var all []string
	for noun, verbs := range kinds {
		for _, verb := range verbs {
			all = append(all, noun+"."+verb)
		}
	}
	slices.Sort(all)
	return all
}

// Nouns returns what the kinds of events begin with, such as "task", sorted.
func Nouns() []string { return slices.Sorted(maps.Keys(kinds)) }

// MadeByPlugins says whether a kind is one that plugins give what they record
// themselves, such as "plugin.snapshot.prune".
func MadeByPlugins(kind string) bool {
	rest, ofPlugins := strings.CutPrefix(kind, "plugin.")
	return ofPlugins && strings.Contains(rest, ".")
}
