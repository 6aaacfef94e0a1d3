// Command detector-infra is the bundled detector of infrastructure gaps: it
// compares this machine with the expectations that its configuration states. A
// gap opens when an expectation has failed several scans in a row, and closes
// when it has held as often, so that nothing flaps.
package main

import (
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

const version = "1.0.0"

func main() {
	d := &infra{}
	sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{
		Name:         "infra",
		Version:      version,
		Summary:      "Compares this machine with what is expected of it.",
		Capabilities: []string{detector.Volatile},
		Schema:       schema,
		Configure:    d.configure,
		Impl:         d,
	})
}
