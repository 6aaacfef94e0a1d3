package gap

import (
	"cmp"
	"slices"

	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Diagnostic is something that a scan could not do. It does not fail the scan.
type Diagnostic struct {
	Detector string `json:"detector,omitempty"` // empty: the host
	Path     string `json:"path,omitempty"`
	Line     int    `json:"line,omitempty"`
	// Reason is stable UPPER_SNAKE_CASE.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Reasons of diagnostics that the host makes. Detectors have their own.
const (
	ReasonWalk       = "WALK_"           // prefix, followed by the code of the workspace package
	ReasonDetector   = "DETECTOR_FAILED" // with no result from that detector
	ReasonRejected   = "FINDING_REJECTED"
	ReasonUnreadable = "UNREADABLE"
	ReasonVanished   = "VANISHED"
)

// maxDiagnostics bounds what a scan keeps of them; the others are counted.
const maxDiagnostics = 1000

// diagnostics is a bounded list.
type diagnostics struct {
	list    []Diagnostic
	omitted int
}

func (d *diagnostics) add(diagnostic Diagnostic) {
	if len(d.list) >= maxDiagnostics {
		d.omitted++
		return
	}
	d.list = append(d.list, diagnostic)
}

func (d *diagnostics) addAll(other diagnostics) {
	for _, diagnostic := range other.list {
		d.add(diagnostic)
	}
	d.omitted += other.omitted
}

// ofWalk takes over what the walk had to say.
func (d *diagnostics) ofWalk(m *workspace.Manifest) {
	for _, w := range m.Diagnostics {
		d.add(Diagnostic{Path: w.Path, Reason: ReasonWalk + upper(string(w.Code)), Message: oneLine(w.Message, maxText)})
	}
	d.omitted += m.DiagnosticsOmitted
}

// upper is ASCII only.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// ofDetector makes a diagnostic of what a detector sent, which is not trusted.
func ofDetector(detector string, d *pluginv1.ScanDiagnostic) Diagnostic {
	path := d.GetPath()
	if path != "" && checkPath(path) != nil {
		path = ""
	}
	return Diagnostic{
		Detector: detector, Path: path, Line: max(int(d.GetLine()), 0),
		Reason:  cmp.Or(oneLine(d.GetReason(), 64), "UNSPECIFIED"),
		Message: oneLine(d.GetMessage(), maxText),
	}
}

// unread returns the paths that another attempt may be able to read.
func (d *diagnostics) unread() []string {
	var paths []string
	for _, diagnostic := range d.list {
		if diagnostic.Path != "" && (diagnostic.Reason == ReasonUnreadable || diagnostic.Reason == ReasonVanished) {
			paths = append(paths, diagnostic.Path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
