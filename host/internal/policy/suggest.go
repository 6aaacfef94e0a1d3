package policy

import (
	"fmt"
	"slices"

	"github.com/agext/levenshtein"
)

// didYouMean returns ` Did you mean "x"?` for the candidate that is most like
// given, or "" when none is near.
func didYouMean(given string, candidates []string) string {
	const longest = 64
	if len(given) > longest {
		return ""
	}
	best, least := "", 1+min(3, max(1, len(given)/2))
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := levenshtein.Distance(given, c, nil); d > 0 && d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}
