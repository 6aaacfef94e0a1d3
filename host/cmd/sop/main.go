// Sop is the System Operations Protocol host and the command to talk to it.
package main

import (
	"context"
	"os"

	"github.com/sop-host/sop/host/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Standard()))
}
