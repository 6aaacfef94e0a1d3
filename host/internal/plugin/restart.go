package plugin

import "github.com/sop-host/sop/host/internal/process"

// RestartPolicy says when a plugin that has failed is started again.
type RestartPolicy = process.Backoff

// DefaultRestartPolicy is what an empty restart block means.
var DefaultRestartPolicy = process.DefaultBackoff
