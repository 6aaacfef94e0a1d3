package gap

import (
	"time"
)

// Gap is one deficiency. Its ID is permanent. The Fingerprint says the same
// about the same place to everybody, with or without a store; it is computed
// anew when the place changes.
type Gap struct {
	ID          string     `json:"id"`          // UUIDv7
	Fingerprint string     `json:"fingerprint"` // see [fingerprint]
	Workspace   string     `json:"workspace"`
	Rule        string     `json:"rule"`
	RuleVersion string     `json:"rule_version"`
	Type        Type       `json:"type"`
	Severity    Severity   `json:"severity"`
	Confidence  Confidence `json:"confidence"`
	Location
	Message         string `json:"message"`
	Remedy          string `json:"remedy"`
	Evidence        string `json:"evidence,omitempty"` // source text, secrets redacted
	Detector        string `json:"detector"`
	DetectorVersion string `json:"detector_version"`
	State           State  `json:"state"`

	FirstSeen time.Time `json:"first_seen"`
	// LastSeen is when a scan last examined the place and saw the gap. A place
	// that has not changed is not examined again.
	LastSeen    time.Time    `json:"last_seen"`
	ResolvedAt  *time.Time   `json:"resolved_at,omitempty"`
	Resolution  Resolution   `json:"resolution,omitempty"`
	Suppression *Suppression `json:"suppression,omitempty"`

	// History holds the state changes, oldest first. Only [Store.Get] fills it.
	History []Change `json:"history,omitempty"`

	// Keys are for matching and stay in the store.
	Keys Keys `json:"-"`
}

// Location is where a gap stands.
type Location struct {
	Path    string `json:"path"` // slash-separated, relative to the workspace; "." is its root
	Line    int    `json:"line"` // from 1; 0 for the whole file
	EndLine int    `json:"end_line"`
	Column  int    `json:"column,omitempty"` // from 1, in bytes; 0: unknown
	Symbol  string `json:"symbol"`
}

// Keys are hashes of what stands at the place and around it, without white
// space; zero where there is nothing to hash. They are computed before secrets
// are redacted, so that two secrets are two contents, and never leave the
// database: what is published is hashed from redacted text only. They are 64
// bits of SHA-256 and not keyed: a key beside the database would be read by
// whoever can read the database, and the workspace itself says more.
type Keys struct {
	Snippet uint64 // the lines of the location
	Context uint64 // with the lines before and after
	Before  uint64 // with the lines before
	After   uint64 // with the lines after
	Message uint64
}

// Suppression says why a gap is tolerated.
type Suppression struct {
	Reason string     `json:"reason"`
	Until  *time.Time `json:"until,omitempty"` // nil: for as long as the content stays
	By     string     `json:"by"`
	// ContentHash identifies the content that it was given for.
	ContentHash string `json:"content_hash"`
}

// Change is one entry of a gap's history.
type Change struct {
	GapID string    `json:"-"`
	At    time.Time `json:"at"`
	From  State     `json:"from"` // empty when the gap was found
	To    State     `json:"to"`
	By    string    `json:"by"` // a person, an agent, or "scan <id>"
	Why   string    `json:"why"`
}

// Live says that the gap is still there, as far as is known.
func (g *Gap) Live() bool { return g.State != StateResolved }

// Type classifies a gap.
type Type string

// The types of gaps.
const (
	FunctionalityMissing    Type = "functionality_missing"
	PerformanceDegradation  Type = "performance_degradation"
	SecurityVulnerability   Type = "security_vulnerability"
	CodeQuality             Type = "code_quality"
	DocumentationIncomplete Type = "documentation_incomplete"
	TestCoverage            Type = "test_coverage"
	Infrastructure          Type = "infrastructure"
)

// Resolution says how a gap was resolved.
type Resolution string

// The resolutions of gaps.
const (
	Fixed         Resolution = "fixed"          // its place was examined and it was not there
	TargetRemoved Resolution = "target_removed" // its file or directory is gone
	RuleRetired   Resolution = "rule_retired"   // its rule, the version that saw it, or the detector is gone
)
