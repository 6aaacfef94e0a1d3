// Command backup-files is the bundled backup plugin for the few files that a
// change is about to replace: a content-addressed store in a directory, where
// what has been acknowledged is on the disk. docs/backup.md describes its format.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

const version = "1.0.0"

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "files", Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	b := &files{}
	sdk.Serve(backup.Kind, sdk.Plugin[backup.Backup]{
		Name:      "files",
		Version:   version,
		Summary:   "Keeps durable copies of files in a content-addressed directory.",
		Schema:    schema,
		Configure: b.configure,
		Impl:      b,
		Logger:    logger,
	})
}
