package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// closest returns the candidate that is most like given, or "" when none is
// near enough to be what was meant. Both the names and their number are
// bounded, so that a hostile file cannot make it slow.
func closest(given string, candidates []string) string {
	const longest, most = 64, 1000
	if len(given) > longest {
		return ""
	}
	best, bestDistance := "", 1+min(3, max(1, len(given)/2))
	for _, candidate := range candidates[:min(most, len(candidates))] {
		if len(candidate) > longest {
			continue
		}
		d := levenshtein.Distance(given, candidate, nil)
		if d > 0 && (d < bestDistance || d == bestDistance && best != "" && anagrams(given, candidate)) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// anagrams says whether two names have the same letters: fingers swap some.
func anagrams(a, b string) bool {
	return slices.Equal(slices.Sorted(slices.Values([]byte(a))), slices.Sorted(slices.Values([]byte(b))))
}

// didYouMean returns ` Did you mean "x"?`, with the leading space, for the
// candidate closest to given, or "" when there is none.
func didYouMean(given string, candidates []string) string {
	if name := closest(given, candidates); name != "" {
		return fmt.Sprintf(" Did you mean %q?", name)
	}
	return ""
}

// A suggester gives a bounded number of suggestions, so that a file with very
// many wrong names is still checked quickly. The zero value is ready.
type suggester struct {
	used int
}

const mostSuggestions = 200

func (s *suggester) didYouMean(given string, candidates []string) string {
	if s.used++; s.used > mostSuggestions {
		return ""
	}
	return didYouMean(given, candidates)
}

// article puts "A" or "An" before the type of a block.
func article(kind string) string {
	if kind != "" && strings.ContainsRune("aeiou", rune(kind[0])) {
		return "An " + kind
	}
	return "A " + kind
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
