// Package process starts processes and holds them: from one thread that never
// ends, in a cgroup, bound to the host's life or not; it waits for their exit,
// reads what they print line by line, and says when one that failed is to be
// started again.
//
// It is what the plugin host and the components have in common, and knows
// neither. It may be imported by plugin, component and startup.
package process
