package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/cli/term"
)

// runEvidence is what is told of the evidence of a run, or of a submission by an
// agent from outside. All of it is in -o json.
type runEvidence struct {
	SubmittedBy string            `json:"submitted_by"`
	Plugin      string            `json:"plugin"`
	Outcome     string            `json:"outcome"`
	Code        int               `json:"code"`
	Explanation string            `json:"explanation"`
	Properties  map[string]string `json:"properties"`
	Error       struct {
		Message string `json:"message"`
	} `json:"error"`
	Evidence commandResult `json:"evidence"`
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended"`
}

// commandResult is how a command ended in its sandbox.
type commandResult struct {
	Status string            `json:"status"`
	Exit   int               `json:"exit"`
	Signal string            `json:"signal"`
	Limits []string          `json:"limits_hit"`
	Level  string            `json:"level"`
	Denied []json.RawMessage `json:"denied"`
	Stdout commandOutput     `json:"stdout"`
	Stderr commandOutput     `json:"stderr"`
}

type commandOutput struct {
	Text string `json:"text"`
}

// verdictEvidence is what is told of a verdict.
type verdictEvidence struct {
	Passed   bool              `json:"passed"`
	Why      string            `json:"why"`
	Steps    []stepEvidence    `json:"steps"`
	Coverage *coverageEvidence `json:"coverage"`
	Took     time.Duration     `json:"took_ns"`
}

type stepEvidence struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Why    string `json:"why"`
	Tests  *struct {
		Expected   int      `json:"expected"`
		Passed     int      `json:"passed"`
		Failed     int      `json:"failed"`
		Skipped    int      `json:"skipped"`
		Challenged int      `json:"challenged"`
		Problems   []string `json:"problems"`
	} `json:"tests"`
	Gaps []struct {
		Rule   string   `json:"rule"`
		Path   string   `json:"path"`
		Before int      `json:"before"`
		After  int      `json:"after"`
		New    []string `json:"new"`
	} `json:"gaps"`
	Runs []struct {
		Argv   []string      `json:"argv"`
		Result commandResult `json:"result"`
	} `json:"runs"`
	Took time.Duration `json:"took_ns"`
}

type coverageEvidence struct {
	Before      coverageShare `json:"before"`
	After       coverageShare `json:"after"`
	NotMeasured string        `json:"not_measured"`
	Packages    []struct {
		Dir    string        `json:"dir"`
		Before coverageShare `json:"before"`
		After  coverageShare `json:"after"`
	} `json:"packages"`
}

type coverageShare struct {
	Covered    int `json:"covered"`
	Statements int `json:"statements"`
}

func (s coverageShare) text() string {
	if s.Statements == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f%% (%d of %d)", 100*float64(s.Covered)/float64(s.Statements), s.Covered, s.Statements)
}

// printRunEvidence writes how a patch came about, in words.
func (a *app) printRunEvidence(text string) {
	var e runEvidence
	if json.Unmarshal([]byte(text), &e) != nil || e.Plugin == "" && e.SubmittedBy == "" {
		a.printDocument("evidence", text) // of another form: as it is
		return
	}
	a.say("\nevidence\n")
	fields := [][2]string{{"submitted by", e.SubmittedBy}, {"made by", e.Plugin}}
	if e.Plugin != "" {
		fields = append(fields, [2]string{"outcome", joinNonEmpty(", ", e.Outcome, fmt.Sprintf("exit code %d", e.Code), tookBetween(e.Started, e.Ended))},
			[2]string{"sandbox", e.Evidence.words()})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Properties)) {
		fields = append(fields, [2]string{strings.ReplaceAll(name, "_", " "), e.Properties[name]})
	}
	a.printFields(append(fields, [2]string{"error", e.Error.Message}))
	a.printLines("explanation", e.Explanation)
}

// words say how a command ended and how it was isolated.
func (r *commandResult) words() string {
	var denied string
	if n := len(r.Denied); n > 0 {
		denied = count(int64(n), "call was denied", "calls were denied")
	}
	var limits string
	if len(r.Limits) > 0 {
		limits = "limits hit: " + strings.Join(r.Limits, ", ")
	}
	return joinNonEmpty(", ", r.Level, r.Signal, limits, denied)
}

func tookBetween(began, ended time.Time) string {
	if began.IsZero() || ended.Before(began) {
		return ""
	}
	return "in " + took(ended.Sub(began))
}

// printFields writes a name and a value a line; empty values are left out.
func (a *app) printFields(fields [][2]string) {
	for _, f := range fields {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], evidenceColumns), term.Safe(f[1]))
		}
	}
}

const evidenceColumns = 16

// printLines writes a text of several lines beneath its name, and the first few only.
func (a *app) printLines(name, text string) {
	const most = 20
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if lines[0] == "" {
		return
	}
	for i, line := range lines[:min(len(lines), most)] {
		if i > 0 {
			name = ""
		}
		a.say("  %s %s\n", term.Pad(name, evidenceColumns), term.Safe(line))
	}
	if more := len(lines) - most; more > 0 {
		a.say("  %s … %s: -o json has all\n", term.Pad("", evidenceColumns), count(int64(more), "more line", "more lines"))
	}
}

// printVerdict writes what verification came to, step by step.
func (a *app) printVerdict(text string) {
	var v verdictEvidence
	if json.Unmarshal([]byte(text), &v) != nil || len(v.Steps) == 0 {
		a.printDocument("verdict", text)
		return
	}
	palette := a.palette(a.OutTerminal)
	a.say("\nverdict\n")
	for i := range v.Steps {
		s := &v.Steps[i]
		outcome := palette.Paint(term.Green, term.Pad("passed", 7))
		if !s.Passed {
			outcome = palette.Paint(term.Red, term.Pad("failed", 7))
		}
		a.say("  %s %s %s\n", term.Pad(term.Safe(s.Name), evidenceColumns), outcome, term.Safe(joinNonEmpty(": ", joinNonEmpty(", ", took(s.Took), s.words()), s.Why)))
		if !s.Passed {
			a.printFailure(s)
		}
	}
	a.printCoverage(v.Coverage)
}

// words say what a step has counted.
func (s *stepEvidence) words() string {
	var out []string
	if t := s.Tests; t != nil {
		out = append(out, fmt.Sprintf("%s passed, %d expected", count(int64(t.Passed), "test", "tests"), t.Expected))
		if t.Failed > 0 {
			out = append(out, fmt.Sprintf("%d failed", t.Failed))
		}
		if t.Skipped > 0 {
			out = append(out, fmt.Sprintf("%d skipped", t.Skipped))
		}
		if t.Challenged > 0 {
			out = append(out, fmt.Sprintf("%d failed when made to", t.Challenged))
		}
	}
	for _, g := range s.Gaps {
		out = append(out, fmt.Sprintf("%s in %s: %d before, %d after", g.Rule, g.Path, g.Before, g.After))
		if len(g.New) > 0 {
			out = append(out, fmt.Sprintf("%d new", len(g.New)))
		}
	}
	return strings.Join(out, ", ")
}

// printFailure writes the problems of a step, and the ends of what it wrote.
func (a *app) printFailure(s *stepEvidence) {
	if s.Tests != nil {
		for _, problem := range s.Tests.Problems[min(1, len(s.Tests.Problems)):] { // the first is why
			a.say("  %s %s\n", term.Pad("", evidenceColumns), term.Safe(problem))
		}
	}
	if len(s.Runs) == 0 {
		return
	}
	last := &s.Runs[len(s.Runs)-1]
	a.say("  %s $ %s\n", term.Pad("", evidenceColumns), term.Safe(term.Truncate(strings.Join(last.Argv, " "), 100)))
	a.printLines("", lastLines(last.Result.Stdout.Text))
	a.printLines("", lastLines(last.Result.Stderr.Text))
}

func lastLines(text string) string {
	const most = 10
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// printCoverage writes how much of the touched packages is tested, before and after.
func (a *app) printCoverage(c *coverageEvidence) {
	switch {
	case c == nil: // a host of before has not looked
		return
	case c.NotMeasured != "":
		a.printFields([][2]string{{"coverage", "not measured: " + c.NotMeasured}})
		return
	}
	a.printFields([][2]string{{"coverage", c.Before.text() + " → " + c.After.text() + " of the statements of the packages that it touches"}})
	for _, p := range c.Packages {
		if len(c.Packages) > 1 {
			a.printFields([][2]string{{"  " + p.Dir, p.Before.text() + " → " + p.After.text()}})
		}
	}
}
