package scaffold

import (
	"path"
	"slices"
	"strings"
)

// MatchPath says whether pattern matches the slash-separated name, element by
// element; "**" stands for any number of elements. A malformed pattern matches
// nothing.
func MatchPath(pattern, name string) bool {
	return matchElements(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

// CoversPath says whether pattern matches the slash-separated name, or a directory
// that it lies in.
func CoversPath(pattern, name string) bool {
	return MatchPath(strings.TrimSuffix(pattern, "/")+"/**", name)
}

// PatternFault says what is wrong with a pattern of [MatchPath]; empty: nothing.
func PatternFault(pattern string) string {
	_, err := path.Match(pattern, "")
	switch {
	case pattern == "":
		return "it is empty"
	case err != nil:
		return "a bracket is not closed"
	case strings.HasPrefix(pattern, "/"), slices.Contains(strings.Split(pattern, "/"), ".."):
		return "patterns are relative to the workspace and stay inside it"
	}
	return ""
}

func matchElements(pattern, name []string) bool {
	// matched[j] says whether the pattern so far matches name[:j]: every pair is
	// looked at once, whatever stars there are.
	matched := make([]bool, len(name)+1)
	matched[0] = true
	for _, element := range pattern {
		next := make([]bool, len(name)+1)
		for j := range next {
			switch {
			case element == "**":
				next[j] = matched[j] || j > 0 && next[j-1]
			case j > 0 && matched[j-1]:
				ok, err := path.Match(element, name[j-1])
				next[j] = ok && err == nil
			}
		}
		matched = next
	}
	return matched[len(name)]
}

// languageOf is the language of a file by its name, or "".
func languageOf(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".go":
		return "go"
	case ".py", ".pyw", ".pyi":
		return "python"
	case ".md", ".markdown", ".mdown", ".mkd", ".mkdn":
		return "markdown"
	}
	return ""
}
