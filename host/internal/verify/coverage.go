package verify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Share is how many of the statements of a package, or of several, are executed by
// tests.
type Share struct {
	Covered    int `json:"covered"`
	Statements int `json:"statements"`
}

// String returns the percentage, and of what.
func (s Share) String() string {
	if s.Statements == 0 {
		return "no statements"
	}
	return fmt.Sprintf("%.1f%% of %d statements", 100*float64(s.Covered)/float64(s.Statements), s.Statements)
}

// below says that the share is smaller than another; of nothing there is none.
func (s Share) below(other Share) bool {
	return s.Statements > 0 && other.Statements > 0 && s.Covered*other.Statements < other.Covered*s.Statements
}

func (s Share) plus(other Share) Share {
	return Share{s.Covered + other.Covered, s.Statements + other.Statements}
}

// PackageCoverage is the coverage of one package by its own tests. Before is zero of
// a package that the patch adds.
type PackageCoverage struct {
	Dir    string `json:"dir"` // relative to the workspace
	Before Share  `json:"before"`
	After  Share  `json:"after"`
}

// Coverage is how much of the packages that a patch touches their tests execute,
// without the patch and with it; or why that was not measured.
//
// What is counted is written by the process whose code is tested, which can write
// anything: a forged figure can keep [Coverage.Lowered] from being said, or have it
// said. No verdict rests on it.
type Coverage struct {
	Before      Share             `json:"before"`
	After       Share             `json:"after"`
	Packages    []PackageCoverage `json:"packages,omitempty"` // sorted
	Lowered     bool              `json:"lowered"`            // as a whole, or of one package
	NotMeasured string            `json:"not_measured,omitempty"`
}

// add takes in a package.
func (c *Coverage) add(p PackageCoverage) {
	c.Packages = append(c.Packages, p)
	c.Before, c.After = c.Before.plus(p.Before), c.After.plus(p.After)
	c.Lowered = c.Lowered || p.After.below(p.Before)
}

// coverage is what the steps have measured together, or why none has.
func (v *Verdict) coverage() *Coverage {
	all := new(Coverage)
	why := "no verify step has the runner " + RunnerGoTest
	if len(v.Steps) > 0 && !v.Steps[len(v.Steps)-1].Passed {
		why = "the patch has not passed"
	}
	for i := range v.Steps {
		switch c := v.Steps[i].coverage; {
		case c == nil:
		case c.NotMeasured != "":
			why = c.NotMeasured
		default:
			for _, p := range c.Packages {
				all.add(p)
			}
		}
	}
	if len(all.Packages) == 0 {
		return &Coverage{NotMeasured: why}
	}
	all.Lowered = all.Lowered || all.After.below(all.Before)
	return all
}

// maxProfile bounds a profile that is read, in bytes, and maxStatements what it may
// count.
const (
	maxProfile    = 32 << 20
	maxStatements = 1 << 30
)

// readProfile adds up a profile as the testing package writes it.
func readProfile(r io.Reader) (Share, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxProfile))
	lines.Buffer(nil, 1<<20)
	var s Share
	for first := true; lines.Scan(); first = false {
		line := lines.Text()
		if first {
			if !strings.HasPrefix(line, "mode: ") {
				return Share{}, errors.New("it does not begin as a profile does")
			}
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return Share{}, fmt.Errorf("%q is no line of a profile", line)
		}
		n, err := strconv.Atoi(fields[len(fields)-2])
		if err != nil || n < 0 || s.Statements+n > maxStatements {
			return Share{}, fmt.Errorf("%q is no number of statements", fields[len(fields)-2])
		}
		s.Statements += n
		if fields[len(fields)-1] != "0" {
			s.Covered += n
		}
	}
	return s, lines.Err()
}
