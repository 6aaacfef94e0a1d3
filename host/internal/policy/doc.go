// Package policy decides whether an agent may do an action on a resource, by
// policies written in Cedar.
//
// A Set is loaded as a whole or not at all: every policy in it has been checked
// against the schema of agents, actions and resources ([Schema]), so that a typo
// is an error with its place and not a rule that never matches. A Set does not
// change; Live holds the one in force.
//
// What is permitted by nothing is denied; what is forbidden by anything is
// denied; and a policy that cannot be evaluated never lets anything through.
//
// The package is a leaf: it imports nothing else of SOP. It may be imported by
// nexus, api and startup.
package policy
