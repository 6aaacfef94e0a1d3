package gap_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/sop-host/sop/host/internal/gap"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// hostile answers with what the test likes, then with a summary.
func hostile(responses ...*pluginv1.ScanResponse) *fake {
	return &fake{
		name: "hostile", version: "1", generation: "g", rules: []*pluginv1.Rule{todoRule},
		answer: func(f *fake, p *pipe) error {
			if _, err := f.receive(p); err != nil {
				return err
			}
			for _, r := range responses {
				if err := p.reply(r); err != nil {
					return err
				}
			}
			return p.reply(&pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{}})
		},
	}
}

func finding(path string, change func(*pluginv1.Finding)) *pluginv1.ScanResponse {
	f := &pluginv1.Finding{
		Rule: "todo", RuleVersion: "1", Message: "m", Snippet: "// TODO",
		Location: &pluginv1.Location{Path: path, Line: 1, EndLine: 1},
	}
	if change != nil {
		change(f)
	}
	return &pluginv1.ScanResponse{Findings: []*pluginv1.Finding{f}}
}

func TestRejectedFindings(t *testing.T) {
	for name, response := range map[string]*pluginv1.ScanResponse{
		"parent":           finding("../../etc/passwd", nil),
		"parent inside":    finding("a/../../b", nil),
		"only parent":      finding("..", nil),
		"absolute":         finding("/etc/passwd", nil),
		"empty":            finding("", nil),
		"not UTF-8":        finding("a\xff.go", nil),
		"newline":          finding("a.go\n", nil),
		"NUL":              finding("a.go\x00", nil),
		"not plain":        finding("./a.go", nil),
		"trailing slash":   finding("dir/", nil),
		"endless":          finding(strings.Repeat("a/", 10000)+"b", nil),
		"not listed":       finding("ignored.go", nil),
		"no location":      {Findings: []*pluginv1.Finding{{Rule: "todo"}}},
		"nil finding":      {Findings: []*pluginv1.Finding{nil}},
		"unknown rule":     finding("a.go", func(f *pluginv1.Finding) { f.Rule = "made.up" }),
		"no rule":          finding("a.go", func(f *pluginv1.Finding) { f.Rule = "" }),
		"rule with escape": finding("a.go", func(f *pluginv1.Finding) { f.Rule = "\x1b[2J" + strings.Repeat("x", 1<<20) }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(map[string]string{"a.go": "// TODO\n", "dir/b.go": ""})
			r := newRig(t, w, gap.ScanOptions{})
			result := r.scan(hostile(response))
			r.want(result, 0, 0, 0, 0)
			if len(result.Diagnostics) != 1 || result.Diagnostics[0].Reason != gap.ReasonRejected || result.Diagnostics[0].Remedy == "" {
				t.Fatalf("%+v", result.Diagnostics)
			}
			if m := result.Diagnostics[0].Message; len(m) > 1024 || strings.ContainsAny(m, "\x1b\n\x00") || !utf8.ValidString(m) {
				t.Errorf("message %q", m)
			}
		})
	}
}

func TestRejectedFindingKeepsTheGapsOfItsPath(t *testing.T) {
	w := newWorld(map[string]string{"a.go": "// TODO\n"})
	r := newRig(t, w, gap.ScanOptions{})
	d := hostile(finding("a.go", nil))
	r.want(r.scan(d), 1, 0, 0, 0)
	d.generation = "other"
	d.answer = hostile(
		&pluginv1.ScanResponse{Covered: []string{"a.go", "../x", "not/listed", "\xff"}},
		finding("a.go", func(f *pluginv1.Finding) { f.Rule = "made.up" }),
	).answer
	r.want(r.scan(d), 0, 0, 0, 1)
}

// A rule has an id that can be named, and a finding something to say.
func TestOddRules(t *testing.T) {
	for _, id := range []string{"", "Bad Rule!", "-x", "a/b", strings.Repeat("x", 200)} {
		d := hostile(finding("a.go", func(f *pluginv1.Finding) { f.Rule = id }))
		d.rules = []*pluginv1.Rule{{Id: id, Version: "1"}}
		r := newRig(t, newWorld(map[string]string{"a.go": "// TODO\n"}), gap.ScanOptions{})
		result := r.scan(d)
		r.want(result, 0, 0, 0, 0)
		if len(result.Diagnostics) != 1 || result.Diagnostics[0].Reason != gap.ReasonRejected {
			t.Errorf("%q: %+v", id, result.Diagnostics)
		}
	}
	r := newRig(t, newWorld(map[string]string{"a.go": "// TODO\n"}), gap.ScanOptions{})
	r.want(r.scan(hostile(finding("a.go", func(f *pluginv1.Finding) { f.Message = " \t " }))), 1, 0, 0, 0)
	if g := r.gaps()[0]; g.Message != todoRule.GetSummary() && g.Message != "todo" {
		t.Errorf("message %q", g.Message)
	}
}

func TestOddFieldsAreTamed(t *testing.T) {
	w := newWorld(map[string]string{"a.go": "// TODO\n", "dir/b.go": ""})
	r := newRig(t, w, gap.ScanOptions{})
	secret := "hunter2" + "hunter2"
	r.want(r.scan(hostile(
		finding("a.go", func(f *pluginv1.Finding) {
			f.RuleVersion, f.Type, f.Severity, f.Confidence = "999", 77, 99, -4
			f.Location.Line, f.Location.EndLine, f.Location.Column = -5, -9, -1
			f.Location.Symbol = "a\x1b[31m\nb\u202e" + strings.Repeat("s", 10000)
			f.Message = "password = \"" + secret + "\"\xff" + strings.Repeat("☃", 10000)
			f.Remedy = "\x00\x07"
			f.Snippet = "token: \"" + secret + "\"\n\x1b]0;title\x07" + strings.Repeat("y ", 1<<20)
			f.ContextBefore = strings.Repeat("z", 1<<20)
		}),
		finding("dir", nil), finding(".", nil),
	)), 3, 0, 0, 0)
	for _, g := range r.gaps() {
		if g.Path != "a.go" {
			continue
		}
		if g.RuleVersion != "1" || g.Type != gap.CodeQuality || g.Severity != gap.SeverityLow || g.Confidence != gap.ConfidenceMedium {
			t.Errorf("%+v", g)
		}
		if g.Line != 0 || g.EndLine != 0 || g.Column != 0 {
			t.Errorf("location %+v", g.Location)
		}
		for field, text := range map[string]string{"symbol": g.Symbol, "message": g.Message, "remedy": g.Remedy, "evidence": g.Evidence} {
			if len(text) > 1024 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x07\x1b\u202e") || strings.Contains(text, secret) {
				t.Errorf("%s is %.200q (%d bytes)", field, text, len(text))
			}
		}
	}
}

func TestFloods(t *testing.T) {
	w := newWorld(map[string]string{"a.go": "// TODO\n"})
	t.Run("findings", func(t *testing.T) {
		r := newRig(t, w, gap.ScanOptions{MaxFindings: 100})
		result := r.scan(&fake{name: "flood", rules: []*pluginv1.Rule{todoRule}, answer: func(_ *fake, p *pipe) error {
			for { // before it reads anything, and without end
				if err := p.reply(finding("a.go", nil)); err != nil {
					return err
				}
			}
		}})
		if result.Complete || result.New != 0 || !strings.Contains(result.Diagnostics[0].Message, "more than 100 findings") {
			t.Errorf("%+v", result)
		}
	})
	t.Run("diagnostics", func(t *testing.T) {
		r := newRig(t, w, gap.ScanOptions{})
		flood := &pluginv1.ScanResponse{}
		for i := range 5000 {
			flood.Diagnostics = append(flood.Diagnostics, &pluginv1.ScanDiagnostic{Path: fmt.Sprint("../", i), Reason: "X\n", Message: "\x1b"})
		}
		result := r.scan(hostile(flood))
		if !result.Complete || len(result.Diagnostics) != 1000 || result.DiagnosticsTotal != 5000 || result.Diagnostics[0].Path != "" {
			t.Errorf("%d of %d diagnostics: %+v", len(result.Diagnostics), result.DiagnosticsTotal, result.Diagnostics[0])
		}
	})
	t.Run("skip reasons", func(t *testing.T) {
		r := newRig(t, w, gap.ScanOptions{})
		many := make(map[string]int64)
		for i := range 1000 {
			many[fmt.Sprint("reason", i)] = -1 + int64(i)
		}
		result := r.scan(&fake{name: "d", rules: []*pluginv1.Rule{todoRule}, answer: func(f *fake, p *pipe) error {
			if _, err := f.receive(p); err != nil {
				return err
			}
			return p.reply(&pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{FilesExamined: -7, Skipped: many}})
		}})
		if !result.Complete || len(result.Skipped) > 32 || result.Detectors[0].Examined != 0 {
			t.Errorf("%+v", result)
		}
	})
	t.Run("after the summary", func(t *testing.T) {
		r := newRig(t, w, gap.ScanOptions{})
		result := r.scan(hostile(finding("a.go", nil), &pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{}}))
		if result.Complete || result.New != 0 {
			t.Errorf("%+v", result)
		}
	})
	t.Run("progress without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, w, gap.ScanOptions{Timeout: time.Second})
			result := r.scan(&fake{name: "d", rules: []*pluginv1.Rule{todoRule}, answer: func(_ *fake, p *pipe) error {
				for {
					select {
					case <-time.After(time.Millisecond): // synthetic time
					case <-p.ctx.Done():
						return p.ctx.Err()
					}
					if err := p.reply(&pluginv1.ScanResponse{Progress: &pluginv1.ScanProgress{FilesDone: 1}}); err != nil {
						return err
					}
				}
			}})
			if result.Complete || result.Duration != time.Second {
				t.Errorf("%+v", result)
			}
		})
	})
	t.Run("ends without reading", func(t *testing.T) {
		big := newWorld(nil)
		for i := range 5000 {
			big.write(fmt.Sprint(i, ".go"), "")
		}
		r := newRig(t, big, gap.ScanOptions{})
		result := r.scan(&fake{name: "d", rules: []*pluginv1.Rule{todoRule}, answer: func(_ *fake, p *pipe) error {
			return p.reply(&pluginv1.ScanResponse{Summary: &pluginv1.ScanSummary{}})
		}})
		if !result.Complete {
			t.Errorf("%+v", result)
		}
	})
}
