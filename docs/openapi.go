// Package docs holds the OpenAPI document of the host's API, which `make
// generate` makes from proto/. Everything else here is for reading.
//
// It may be imported by api and cli.
package docs

import _ "embed"

// OpenAPI is the document, in JSON. It is not to be changed.
//
//go:embed openapi.json
var OpenAPI []byte
