// Command protocol-http is the bundled protocol plugin for peers that are HTTP
// services: it posts each operation to a URL of its own and hands the answer back.
// docs/protocols.md describes what it sends.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

const version = "1.0.0"

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "http", Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	p := &peer{logger: logger}
	sdk.Serve(protocol.Kind, sdk.Plugin[protocol.Protocol]{
		Name: "http", Version: version, Summary: "Joins an HTTP service.",
		Schema: schema, Configure: p.configure, Impl: p, Logger: logger,
	})
}
