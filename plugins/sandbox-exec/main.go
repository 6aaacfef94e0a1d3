// Command sandbox-exec is the bundled sandbox plugin that runs a command to
// generate a change: a script, or a coding agent. The contract is
// sop.generator/v1; see docs/generators.md. It imports the SDK only.
package main

import (
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/sandbox"
)

// version of the plugin.
const version = "1.0.0"

func main() {
	g := newGenerator()
	sdk.Serve(sandbox.Kind, sdk.Plugin[sandbox.Sandbox]{
		Name:      "exec",
		Version:   version,
		Summary:   "Runs a command to generate a change.",
		Schema:    schema,
		Configure: g.configure,
		Impl:      g,
	})
}
