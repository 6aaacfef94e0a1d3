// Package detector is what a detector plugin implements: it looks at a
// workspace and reports what is missing or wrong.
//
// The host walks the workspace and sends the list of files; a detector reads
// what it cares about with [Scan.Each], reports findings, and names the paths
// that it has examined completely, for only there may the host conclude that a
// gap is gone. On a second scan it is given only what has changed.
package detector

import (
	"context"

	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Detector finds gaps. Both methods may be called concurrently; two scans of
// the same workspace are not.
type Detector interface {
	// Rules names what Scan looks for under the current configuration. The
	// adapter takes a finding's type, severity and rule version from here.
	Rules(ctx context.Context) ([]*pluginv1.Rule, error)
	// Scan examines a workspace and reports through s. It returns ctx.Err()
	// soon after ctx is done: one that goes on for a second keeps the next scan of
	// the workspace from beginning, and one that goes on for 30 s has the plugin
	// started anew. An error fails the scan as a whole, and nothing
	// is concluded from what was reported before; what cannot be examined is
	// for [Scan.Diagnose] and is no error.
	Scan(ctx context.Context, s *Scan) error
}

// Volatile is the capability of a detector whose findings depend on more than
// the files of the workspace: it is scanned although none has changed.
const Volatile = "volatile"

// Kind is the detector kind.
var Kind = sdk.Kind[Detector, pluginv1.DetectorClient]{
	Name:      "detector",
	Register:  func(s grpc.ServiceRegistrar, impl Detector) { pluginv1.RegisterDetectorServer(s, newServer(impl)) },
	NewClient: pluginv1.NewDetectorClient,

	CancelWithin: cancelWithin,
}

// File is one regular file of the workspace.
type File struct {
	// Path is slash-separated and relative to the root.
	Path string
	// Size in bytes.
	Size int64
	// ModTime is in nanoseconds since the Unix epoch.
	ModTime int64
	// Testdata says that the file lies under a testdata directory.
	Testdata bool
}
