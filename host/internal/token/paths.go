package token

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// A path pattern is slash-separated and relative to the workspace. It covers
// what it matches and everything beneath. In a segment * stands for any bytes
// and ? for one; neither matches a slash.

const maxPath = 1024 // bytes

// cleanPath returns a path in its one form; false: it is none, or leads out.
func cleanPath(p string) (string, bool) {
	if p == "" || len(p) > maxPath || !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", false
	}
	if path.IsAbs(p) || slices.Contains(strings.Split(p, "/"), "..") {
		return "", false
	}
	return path.Clean(p), true
}

// covers says that everything that the pattern inner matches is covered by
// outer. It may say no where the answer is yes, never the other way round. A
// path is a pattern that matches itself.
func covers(outer, inner string) bool {
	if outer == "." {
		return true
	}
	out, in := strings.Split(outer, "/"), strings.Split(inner, "/")
	if inner == "." || len(in) < len(out) {
		return false
	}
	for i, segment := range out {
		if segment != in[i] && segment != "*" && (strings.ContainsAny(in[i], "*?") || !matches(segment, in[i])) {
			return false
		}
	}
	return true
}

// matches says whether a name matches a segment of a pattern.
func matches(pattern, name string) bool {
	star, mark := -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// allCovered says that each of inner is covered by one of outer; no outer
// patterns cover everything, and no inner patterns mean everything.
func allCovered(outer, inner []string) bool {
	if len(outer) == 0 {
		return true
	}
	for _, in := range inner {
		if !slices.ContainsFunc(outer, func(out string) bool { return covers(out, in) }) {
			return false
		}
	}
	return len(inner) > 0
}
