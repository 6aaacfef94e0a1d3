package main

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// version of the plugin.
const version = "1.0.0"

// Rule ids. They are part of the host's contract with its users.
const (
	ruleMarker     = "code.marker"
	ruleStub       = "code.stub"
	ruleComplexity = "code.complexity"
)

// rules is what this detector looks for.
var rules = []*pluginv1.Rule{
	{
		Id: ruleMarker, Version: "1", Type: pluginv1.GapType_GAP_TYPE_CODE_QUALITY,
		DefaultSeverity: pluginv1.Severity_SEVERITY_LOW,
		Summary:         "A comment marks work that is left to do.",
	},
	{
		Id: ruleStub, Version: "1", Type: pluginv1.GapType_GAP_TYPE_FUNCTIONALITY_MISSING,
		DefaultSeverity: pluginv1.Severity_SEVERITY_MEDIUM,
		Summary:         "A function is there but not implemented.",
	},
	{
		Id: ruleComplexity, Version: "1", Type: pluginv1.GapType_GAP_TYPE_CODE_QUALITY,
		DefaultSeverity: pluginv1.Severity_SEVERITY_LOW,
		Summary:         "A function has more paths through it than the limit allows.",
	},
}

// code is the detector.
type code struct{ settings atomic.Pointer[settings] }

func newCode() *code {
	d := &code{}
	d.settings.Store(defaultSettings())
	return d
}

// configure implements [sdk.ConfigureFunc].
func (d *code) configure(_ context.Context, c *sdk.Config) error {
	set, err := decode(c)
	if err != nil {
		return err
	}
	d.settings.Store(set)
	return nil
}

// Rules implements [detector.Detector].
func (d *code) Rules(context.Context) ([]*pluginv1.Rule, error) { return rules, nil }

// Scan implements [detector.Detector]. Every file stands for itself, so that
// only what has changed is read.
func (d *code) Scan(ctx context.Context, s *detector.Scan) error {
	set := d.settings.Load()
	match := func(f detector.File) bool {
		if languageOf(f.Path) == nil {
			return false
		}
		if f.Testdata {
			s.Skip("testdata")
			return false
		}
		return true
	}
	return s.Each(ctx, match, func(src *detector.Source) error {
		r := &report{src: src, set: set, functions: set.tests || !isTest(src.Path)}
		return languageOf(src.Path).examine(ctx, r)
	})
}

// report says what one file is blamed for.
type report struct {
	src *detector.Source
	set *settings
	// functions says that stubs and complexity count in this file.
	functions bool
}

// isTest says whether a file holds tests, by its name or a directory's.
func isTest(name string) bool {
	dir, base := path.Split(name)
	switch path.Ext(base) {
	case ".go":
		return strings.HasSuffix(base, "_test.go")
	case ".py", ".pyi":
		stem := strings.TrimSuffix(base, path.Ext(base))
		return strings.HasPrefix(stem, "test_") || strings.HasSuffix(stem, "_test") || stem == "conftest" ||
			slices.ContainsFunc(strings.Split(dir, "/"), func(d string) bool { return d == "tests" || d == "test" })
	}
	return false
}
