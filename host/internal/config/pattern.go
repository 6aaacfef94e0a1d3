package config

import (
	"regexp"
	"sync"
)

// A pattern is a regular expression that is compiled when it is first asked: most
// commands ask few, and start sooner for it.
type pattern func() *regexp.Regexp

func newPattern(expression string) pattern {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// MatchString says whether the pattern occurs in s.
func (p pattern) MatchString(s string) bool { return p().MatchString(s) }
