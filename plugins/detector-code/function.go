package main

import (
	"fmt"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// stub reports a function that is not implemented; how says what it does
// instead.
func (r *report) stub(line int, symbol, kind, how string, confidence pluginv1.Confidence) {
	r.src.Report(&pluginv1.Finding{
		Rule:       ruleStub,
		Confidence: confidence,
		Location:   &pluginv1.Location{Line: int32(line), EndLine: int32(line), Symbol: symbol},
		Message:    fmt.Sprintf("The %s %s is a stub: %s.", kind, symbol, how),
		Remedy:     "Implement it, or remove it together with what calls it.",
		Properties: map[string]string{"kind": kind},
	})
}

// complexity reports a function with more paths than the limit. The finding
// stands on the function's line alone, so that it stays the same while the body
// is edited.
func (r *report) complexity(line int, symbol, kind string, value int) {
	limit := r.set.limit
	if value <= limit {
		return
	}
	severity := pluginv1.Severity_SEVERITY_LOW
	switch {
	case value >= 4*limit:
		severity = pluginv1.Severity_SEVERITY_HIGH
	case value >= 2*limit:
		severity = pluginv1.Severity_SEVERITY_MEDIUM
	}
	r.src.Report(&pluginv1.Finding{
		Rule:     ruleComplexity,
		Severity: severity,
		Location: &pluginv1.Location{Line: int32(line), EndLine: int32(line), Symbol: symbol},
		Message:  fmt.Sprintf("The %s %s has a cyclomatic complexity of %d; the limit is %d.", kind, symbol, value, limit),
		Remedy:   "Split it into functions that each do one thing, or turn its conditions into data.",
		Properties: map[string]string{
			"complexity": fmt.Sprint(value), "limit": fmt.Sprint(limit),
		},
	})
}
