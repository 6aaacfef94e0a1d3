package main

import (
	"context"
	"fmt"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// check is one expectation.
type check struct {
	rule string
	// subject is what it is about, such as "disk /var". With the rule it
	// identifies the gap.
	subject string
	// expected is the expectation in words; it changes with the configuration
	// only.
	expected string
	remedy   string
	// failing returns what is not as expected, one sentence, or nothing. An
	// error says that it could not be found out.
	failing func(ctx context.Context) (string, error)
}

// key identifies the check across scans and processes.
func (c *check) key() string { return c.rule + " " + c.subject }

// finding is the gap of a check that fails.
func (c *check) finding(message string) *pluginv1.Finding {
	return &pluginv1.Finding{
		Rule: c.rule, Message: message, Remedy: c.remedy,
		Location: &pluginv1.Location{Path: ".", Symbol: c.subject},
		// What the gap is recognised by: measurements change from scan to scan.
		Snippet: c.subject + ": " + c.expected,
	}
}

// rules are all that the detector looks for.
func rules() []*pluginv1.Rule {
	rule := func(id, summary string, severity pluginv1.Severity) *pluginv1.Rule {
		return &pluginv1.Rule{
			Id: "infra." + id, Version: "1", Summary: summary, Type: pluginv1.GapType_GAP_TYPE_INFRASTRUCTURE, DefaultSeverity: severity,
			HelpUri: "docs/detectors.md#detector-infra",
		}
	}
	const (
		high   = pluginv1.Severity_SEVERITY_HIGH
		medium = pluginv1.Severity_SEVERITY_MEDIUM
	)
	return []*pluginv1.Rule{
		rule("disk", "A file system has less space or fewer inodes left than expected.", high),
		rule("memory", "More memory or swap is in use than expected.", high),
		rule("load", "The processors have more to do than expected.", medium),
		rule("clock", "The clock differs from the reference.", high),
		rule("port", "A port is closed that should be open, or open that should be closed.", high),
		rule("process", "More or fewer processes run than expected.", high),
		rule("unit", "A systemd unit is not in the expected state.", high),
		rule("certificate", "A certificate is invalid or expires soon.", high),
		rule("file", "A file differs from what is expected in mode, owner or content.", high),
		rule("http", "An HTTP service does not answer as expected.", high),
	}
}

// plural puts a number before a word.
func plural(n int, word, words string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %s", n, words)
}
