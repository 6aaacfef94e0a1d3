// Package cgroup places a process and all that it starts in a control group of
// its own: limited, measured, and ended as one. It knows cgroup v2 and, where
// that offers less, the v1 hierarchies.
//
// Only the packages that start processes may import it (plugin and what lies
// beneath sandbox); it imports nothing of ours.
package cgroup
