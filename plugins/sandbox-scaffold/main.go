// Command sandbox-scaffold is the bundled sandbox plugin that closes gaps by
// scaffolds: deterministic templates, without network and without a model. It
// imports the SDK only.
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
		Name:      "scaffold",
		Version:   version,
		Summary:   "Closes gaps by deterministic templates.",
		Schema:    schema,
		Configure: g.configure,
		Impl:      g,
	})
}
