// Command detector-docs is the bundled detector of missing documentation: Go
// symbols and packages without comment, READMEs that are absent or empty, and
// Markdown links that lead nowhere. It imports the SDK and parsers only.
package main

import (
	"context"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// pass examines one language. It is given every scan, whole or incremental.
type pass func(ctx context.Context, scan *detector.Scan, set *settings) error

// passes run one after the other; each is parallel within. Every file belongs
// to one pass, for covering a path speaks for all findings there.
var passes = []pass{
	goPass,
	markdownPass,
	pythonPass,
}

func main() {
	d := newDocs()
	sdk.Serve(detector.Kind, sdk.Plugin[detector.Detector]{
		Name:      "docs",
		Version:   version,
		Summary:   "Finds missing documentation and broken links in it.",
		Schema:    schema,
		Configure: d.configure,
		Impl:      d,
	})
}
