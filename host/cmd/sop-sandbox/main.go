// Sop-sandbox starts commands in a sandbox for sop, which it is installed
// beside.
package main

import (
	"os"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

func main() {
	os.Exit(launch.Main(os.Args[1:]))
}
