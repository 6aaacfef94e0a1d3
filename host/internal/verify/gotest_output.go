package verify

import (
	"maps"
	"slices"
	"strings"
)

// States of a test.
const (
	testPassed  = "passed"
	testFailed  = "failed"
	testSkipped = "skipped"
	testUnclear = "unclear" // it was not begun, not ended, or ended more often than begun
)

// A testResult counts what a program has written of a test.
type testResult struct{ runs, passes, fails, skips int }

// verdict is what that comes to: as many ends as beginnings, or nothing.
func (r *testResult) verdict() string {
	switch {
	case r == nil:
		return testUnclear
	case r.fails > 0:
		return testFailed
	case r.runs == 0 || r.passes+r.skips != r.runs:
		return testUnclear
	case r.skips > 0:
		return testSkipped
	}
	return testPassed
}

// marker stands before each line of the test framework's own. Tests may write
// it too: a failure counts whoever says so, and a test has to be begun as often
// as before.
const marker = "\x16"

// maxTests bounds the tests of one program that are counted.
const maxTests = 200_000

// parseTests reads what a test program has written with -test.v=test2json.
func parseTests(text string) map[string]*testResult {
	tests := make(map[string]*testResult)
	for segment := range strings.SplitSeq(text, marker) {
		line, _, _ := strings.Cut(segment, "\n")
		word, rest, _ := strings.Cut(strings.TrimLeft(line, " "), ": ")
		if begun, found := strings.CutPrefix(line, "=== RUN "); found {
			word, rest = "=== RUN", strings.TrimSpace(begun)
		}
		name, _, _ := strings.Cut(rest, " ")
		if name == "" || len(tests) >= maxTests {
			continue
		}
		switch word {
		case "=== RUN", "--- PASS", "--- FAIL", "--- SKIP":
		default:
			continue
		}
		r := tests[name]
		if r == nil {
			r = new(testResult)
			tests[name] = r
		}
		switch word {
		case "=== RUN":
			r.runs++
		case "--- PASS":
			r.passes++
		case "--- FAIL":
			r.fails++
		case "--- SKIP":
			r.skips++
		}
	}
	return tests
}

// A pass is how a test has passed.
type pass struct {
	runs     int // more than one where two packages of a directory have it
	subtests int // that passed beneath it
}

// passedTests are the tests at the top that have passed.
func passedTests(tests map[string]*testResult) map[string]pass {
	passed := make(map[string]pass)
	for name, r := range tests {
		if r.verdict() != testPassed {
			continue
		}
		top, _, sub := strings.Cut(name, "/")
		if tests[top].verdict() != testPassed {
			continue
		}
		p := passed[top]
		if sub {
			p.subtests++
		} else {
			p.runs = r.runs
		}
		passed[top] = p
	}
	return passed
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
