package main

import (
	"context"
	"fmt"
	"sync/atomic"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// version of the plugin.
const version = "1.0.0"

// Rule ids. They are part of the host's contract with its users.
const (
	ruleExported       = "docs.go.exported"
	rulePackage        = "docs.go.package"
	rulePythonModule   = "docs.python.module"
	rulePythonClass    = "docs.python.class"
	rulePythonFunction = "docs.python.function"
	ruleReadme         = "docs.readme"
	ruleLink           = "docs.markdown.link"
	ruleAnchor         = "docs.markdown.anchor"
)

// rules is what this detector looks for.
var rules = []*pluginv1.Rule{
	rule(ruleExported, pluginv1.Severity_SEVERITY_LOW, "An exported Go symbol has no doc comment."),
	rule(rulePackage, pluginv1.Severity_SEVERITY_LOW, "A Go package has no package comment."),
	rule(rulePythonModule, pluginv1.Severity_SEVERITY_LOW, "A public Python module has no docstring."),
	rule(rulePythonClass, pluginv1.Severity_SEVERITY_LOW, "A public Python class has no docstring."),
	rule(rulePythonFunction, pluginv1.Severity_SEVERITY_LOW, "A public Python function or method has no docstring."),
	rule(ruleReadme, pluginv1.Severity_SEVERITY_MEDIUM, "A workspace or one of its components has no README, or an empty one."),
	rule(ruleLink, pluginv1.Severity_SEVERITY_MEDIUM, "A relative link or image in Markdown leads to no file."),
	rule(ruleAnchor, pluginv1.Severity_SEVERITY_LOW, "A link in Markdown names an anchor that its target does not have."),
}

// rule makes a rule in its first version.
func rule(id string, severity pluginv1.Severity, summary string) *pluginv1.Rule {
	return &pluginv1.Rule{
		Id: id, Version: "1", Summary: summary, DefaultSeverity: severity,
		Type: pluginv1.GapType_GAP_TYPE_DOCUMENTATION_INCOMPLETE,
	}
}

// docs is the detector.
type docs struct{ settings atomic.Pointer[settings] }

func newDocs() *docs {
	d := &docs{}
	d.settings.Store(&settings{})
	return d
}

// configure implements [sdk.ConfigureFunc].
func (d *docs) configure(_ context.Context, c *sdk.Config) error {
	set := &settings{}
	if err := c.Decode(set); err != nil {
		return &sdk.ConfigError{Summary: err.Error()}
	}
	if err := set.validate(); err != nil {
		return err
	}
	d.settings.Store(set)
	return nil
}

// Rules implements [detector.Detector].
func (d *docs) Rules(context.Context) ([]*pluginv1.Rule, error) { return rules, nil }

// Scan implements [detector.Detector].
func (d *docs) Scan(ctx context.Context, scan *detector.Scan) error {
	set := d.settings.Load()
	for _, run := range passes {
		if err := run(ctx, scan, set); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("scan of %s: %w", scan.Workspace, err)
		}
	}
	return nil
}
