// Command detector-code is the bundled detector of unfinished and overgrown
// code: markers in comments, functions that are stubs, and functions that are
// too complex. It imports the SDK and parsers only.
package main

import (
	"runtime/debug"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// memoryLimit in bytes is where the garbage collector begins to work harder.
const memoryLimit = 160 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	d := newCode()
	sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{
		Name:      "code",
		Version:   version,
		Summary:   "Finds markers in comments, stubs and complex functions.",
		Schema:    schema,
		Configure: d.configure,
		Impl:      d,
	})
}
