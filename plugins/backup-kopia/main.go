// Command backup-kopia is the bundled backup plugin for whole workspaces and for
// what grows: deduplicated, compressed and encrypted snapshots in a kopia
// repository, in a directory or in an S3 bucket, which the kopia client opens
// too. docs/backup.md and DESIGN.md beside this file describe it.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

const version = "1.0.0"

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "kopia", Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	k := &plugin{}
	sdk.Serve(backup.Kind, sdk.Plugin[backup.Backup]{
		Name:      "kopia",
		Version:   version,
		Summary:   "Keeps deduplicated, compressed and encrypted snapshots in a kopia repository.",
		Schema:    schema,
		Configure: k.configure,
		Impl:      k,
		Logger:    logger,
	})
}
