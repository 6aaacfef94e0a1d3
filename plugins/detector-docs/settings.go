package main

import (
	"errors"
	"path"
	"strings"

	"github.com/sop-host/sop/sdk"
)

// schema of the plugin's `config { }` block.
var schema = sdk.Schema{Attributes: []sdk.Attribute{
	{
		Name: "exported_exclude", Type: sdk.StringList,
		Description: "Go files in which exported symbols need no comment, as path patterns relative to the workspace; ** stands for any number of directories.",
	},
	{
		Name: "check_private_receivers", Type: sdk.Bool, Default: false,
		Description: "Also ask for comments on exported methods of unexported types.",
	},
	{
		Name: "component_dirs", Type: sdk.StringList,
		Description: "Directories that need a README besides the top-level ones that hold a manifest, as path patterns such as \"services/*\".",
	},
	{
		Name: "markdown_exclude", Type: sdk.StringList,
		Description: "Markdown files whose links are not judged, as path patterns relative to the workspace.",
	},
}}

// settings is the decoded block.
type settings struct {
	ExportedExclude       []string `json:"exported_exclude"`
	CheckPrivateReceivers bool     `json:"check_private_receivers"`
	ComponentDirs         []string `json:"component_dirs"`
	MarkdownExclude       []string `json:"markdown_exclude"`
}

// validate returns a [sdk.ConfigError] for every pattern that cannot match.
func (s *settings) validate() error {
	var errs []error
	for _, list := range []struct {
		name     string
		patterns []string
	}{
		{"exported_exclude", s.ExportedExclude},
		{"component_dirs", s.ComponentDirs},
		{"markdown_exclude", s.MarkdownExclude},
	} {
		for _, p := range list.patterns {
			if detail := patternFault(p); detail != "" {
				errs = append(errs, &sdk.ConfigError{Attribute: list.name, Summary: "invalid path pattern \"" + p + "\"", Detail: detail})
			}
		}
	}
	return errors.Join(errs...)
}

// patternFault says what to do about a pattern, or nothing.
func patternFault(pattern string) string {
	switch _, err := path.Match(pattern, ""); {
	case err != nil:
		return "Close every bracket, and escape a literal one with a backslash."
	case pattern == "":
		return "Name a path relative to the workspace, such as \"internal/**\"."
	case strings.HasPrefix(pattern, "/"), pattern == "..", strings.HasPrefix(pattern, "../"):
		return "Patterns are relative to the workspace and stay inside it: drop what stands before the first name."
	}
	return ""
}

// matchAny says whether one of the patterns matches name.
func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matchPath(strings.Split(p, "/"), strings.Split(name, "/")) {
			return true
		}
	}
	return false
}

// matchPath matches element by element; "**" stands for any number of them.
func matchPath(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := range len(name) + 1 {
				if matchPath(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}
