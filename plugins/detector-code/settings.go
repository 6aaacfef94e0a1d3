package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"

	"github.com/sop-host/sop/sdk"
)

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{Attributes: []sdk.Attribute{
	{
		Name: "complexity_limit", Type: sdk.Number, Default: defaultLimit,
		Description: "Cyclomatic complexity that a function may have; above it there is a gap.",
	},
	{
		Name: "markers", Type: sdk.StringList, Default: defaultMarkers,
		Description: "Upper-case words that mark unfinished work in comments.",
	},
	{
		Name: "tests", Type: sdk.Bool, Default: false,
		Description: "Also look for stubs and complex functions in tests.",
	},
}}

const defaultLimit = 15

var defaultMarkers = []string{"TODO", "FIXME", "HACK", "XXX"}

// settings is the configuration in use.
type settings struct {
	limit   int
	markers *markers
	tests   bool
}

// block is the decoded `config { }`.
type block struct {
	ComplexityLimit float64  `json:"complexity_limit"`
	Markers         []string `json:"markers"`
	Tests           bool     `json:"tests"`
}

func defaultSettings() *settings {
	return &settings{limit: defaultLimit, markers: newMarkers(defaultMarkers)}
}

// decode reads a configuration. What is wrong with it comes as one or more
// [sdk.ConfigError].
func decode(c *sdk.Config) (*settings, error) {
	b := block{ComplexityLimit: defaultLimit, Markers: defaultMarkers}
	if err := c.Decode(&b); err != nil {
		return nil, &sdk.ConfigError{Summary: err.Error()}
	}
	return b.settings()
}

// markerWord is what a marker may be.
var markerWord = regexp.MustCompile(`^[A-Z][A-Z0-9_]{1,31}$`)

// settings validates b.
func (b *block) settings() (*settings, error) {
	var errs []error
	const most = 10_000
	if l := b.ComplexityLimit; l != math.Trunc(l) || l < 1 || l > most {
		errs = append(errs, &sdk.ConfigError{
			Attribute: "complexity_limit",
			Summary:   fmt.Sprintf("%v is no complexity that a function can have", l),
			Detail:    fmt.Sprintf("Give a whole number from 1 to %d; %d is usual.", most, defaultLimit),
		})
	}
	seen := make(map[string]bool)
	for _, m := range b.Markers {
		switch {
		case !markerWord.MatchString(m):
			errs = append(errs, &sdk.ConfigError{
				Attribute: "markers", Summary: fmt.Sprintf("%q is no marker", m),
				Detail: "A marker is a word of 2 to 32 upper-case letters, digits and underscores, such as \"TODO\".",
			})
		case seen[m]:
			errs = append(errs, &sdk.ConfigError{
				Attribute: "markers", Summary: fmt.Sprintf("%q stands twice", m), Detail: "Name every marker once.",
			})
		}
		seen[m] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &settings{limit: int(b.ComplexityLimit), markers: newMarkers(b.Markers), tests: b.Tests}, nil
}
