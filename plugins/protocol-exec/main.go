// Command protocol-exec is the bundled protocol plugin for programs that read
// JSON requests and write JSON answers on their standard streams, in any language
// and any order: one process, many requests in flight. docs/protocols.md describes
// what they speak.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

const version = "1.0.0"

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "exec", Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	p := &peer{logger: logger}
	sdk.Serve(protocol.Kind, sdk.Plugin[protocol.Protocol]{
		Name: "exec", Version: version, Summary: "Joins a program that speaks JSON on its standard streams.",
		Schema: schema, Configure: p.configure, Impl: p, Logger: logger,
	})
}
