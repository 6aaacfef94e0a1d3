package nexus

import "github.com/sop-host/sop/sdk/scaffold"

// Scaffolds are the templates that plugins may read.
type Scaffolds interface {
	// Get returns nil where there is none of that name.
	Get(name string) *scaffold.Scaffold
}
