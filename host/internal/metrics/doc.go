// Package metrics is what the host tells a Prometheus server: every metric is
// defined in definitions.go, and nowhere else.
//
// What happens is counted by the methods of [Metrics]; how things stand is read
// when somebody asks, by the function that [Metrics.Handler] is given. No label
// holds what a caller can make up: methods, codes, types, states, and the names
// that the configuration gives to plugins, components and workspaces. Reasons come from the
// host's own code, and are bounded all the same.
//
// It imports nothing of ours and is imported by startup, which passes it to
// whoever declares what they tell.
package metrics
