package sarif

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

const sourceRoot = "SRCROOT"

// semver is what semanticVersion may hold.
var semver = regexp.MustCompile(`^v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

func newLog(outcome *startup.ScanOutcome, root, version string) log {
	rules, index := newRules(outcome)
	driver := component{Name: "sop", FullName: "System Operations Protocol host", Version: version, Rules: rules}
	if semver.MatchString(version) {
		driver.SemanticVersion = strings.TrimPrefix(version, "v")
	}
	results := make([]result, len(outcome.Gaps))
	for i, gap := range outcome.Gaps {
		results[i] = newResult(gap, index[gap.GetRule()])
	}
	return log{
		Schema:  schemaURI,
		Version: "2.1.0",
		Runs: []run{{
			Tool:               tool{Driver: driver},
			Invocations:        []invocation{newInvocation(outcome.Scan)},
			OriginalURIBaseIDs: map[string]artifactLocation{sourceRoot: {URI: directoryURI(root)}},
			Results:            results,
			Properties:         runProperties(outcome.Scan),
		}},
	}
}

// newRules returns the rules that were applied, and those that a gap names
// without one having been told, with the place of each by id.
func newRules(outcome *startup.ScanOutcome) ([]rule, map[string]int) {
	rules, index := []rule{}, make(map[string]int)
	add := func(id string, r rule) {
		if _, known := index[id]; !known {
			index[id] = len(rules)
			rules = append(rules, r)
		}
	}
	for _, r := range outcome.Rules {
		add(r.ID, newRule(r))
	}
	for _, g := range outcome.Gaps {
		add(g.GetRule(), newRule(startup.Rule{
			ID: g.GetRule(), Version: g.GetRuleVersion(),
			Type: g.GetType(), Severity: g.GetSeverity(), Detector: g.GetDetector(),
		}))
	}
	return rules, index
}

func newRule(r startup.Rule) rule {
	out := rule{
		ID:                   r.ID,
		DefaultConfiguration: configuration{Level: level(r.Severity)},
		Properties:           properties("version", r.Version, "type", r.Type, "severity", r.Severity, "detector", r.Detector),
	}
	if isAbsoluteURI(r.HelpURI) {
		out.HelpURI = r.HelpURI
	}
	if r.Summary != "" {
		out.ShortDescription = &message{r.Summary}
	}
	if r.Type != "" {
		out.Properties["tags"] = []string{r.Type}
	}
	return out
}

func newResult(g *apiv1.GapRecord, ruleIndex int) result {
	out := result{
		RuleID:    g.GetRule(),
		RuleIndex: ruleIndex,
		Level:     level(g.GetSeverity()),
		Message:   message{g.GetMessage()},
		Locations: []location{newLocation(g)},
		Properties: properties("type", g.GetType(), "severity", g.GetSeverity(), "confidence", g.GetConfidence(),
			"detector", g.GetDetector(), "remedy", g.GetRemedy(), "state", g.GetState()),
	}
	if g.GetFingerprint() != "" {
		out.PartialFingerprints = map[string]string{"sopFingerprint/v1": g.GetFingerprint()}
	}
	if g.GetState() == "suppressed" {
		out.Suppressions = []suppression{{Kind: "external", Justification: g.GetSuppressReason()}}
	}
	return out
}

func newLocation(g *apiv1.GapRecord) location {
	at := place(g.GetPath(), g.GetLine())
	if r := at.PhysicalLocation.Region; r != nil && g.GetEndLine() >= r.StartLine {
		r.EndLine = g.GetEndLine()
	}
	if g.GetSymbol() != "" {
		at.LogicalLocations = []logicalLocation{{g.GetSymbol()}}
	}
	return at
}

func place(path string, line int32) location {
	at := physicalLocation{ArtifactLocation: artifactLocation{URI: relativeURI(path), URIBaseID: sourceRoot}}
	if line > 0 {
		at.Region = &region{StartLine: line}
	}
	return location{PhysicalLocation: at}
}

func newInvocation(scan *apiv1.ScanReport) invocation {
	out := invocation{ExecutionSuccessful: scan.GetError() == "", ToolExecutionNotifications: []notification{}}
	if scan.GetStartedAt() != nil {
		start := scan.GetStartedAt().AsTime()
		out.StartTimeUTC = start.Format(time.RFC3339Nano)
		out.EndTimeUTC = start.Add(scan.GetTook().AsDuration()).Format(time.RFC3339Nano)
	}
	if scan.GetError() != "" {
		out.ToolExecutionNotifications = append(out.ToolExecutionNotifications,
			notification{Level: "error", Message: message{scan.GetError()}})
	}
	for _, d := range scan.GetDiagnostics() {
		out.ToolExecutionNotifications = append(out.ToolExecutionNotifications, newNotification(d))
	}
	return out
}

func newNotification(d *apiv1.ScanDiagnostic) notification {
	n := notification{
		Level:      "warning",
		Message:    message{d.GetMessage()},
		Properties: properties("detector", d.GetDetector(), "reason", d.GetReason()),
	}
	if d.GetPath() != "" {
		n.Locations = []location{place(d.GetPath(), d.GetLine())}
	}
	return n
}

func runProperties(scan *apiv1.ScanReport) map[string]any {
	out := map[string]any{"complete": scan.GetComplete(), "files": scan.GetFiles()}
	if len(scan.GetSkipped()) > 0 {
		out["skipped"] = scan.GetSkipped()
	}
	return out
}

// properties returns a property bag of the pairs whose value is not empty.
func properties(pairs ...string) map[string]any {
	bag := make(map[string]any)
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			bag[pair[0]] = pair[1]
		}
	}
	return bag
}

func level(severity string) string {
	switch severity {
	case "critical", "high":
		return "error"
	case "medium":
		return "warning"
	}
	return "note"
}
