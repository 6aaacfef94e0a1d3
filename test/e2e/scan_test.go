package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A scan takes neither host nor configuration, and leaves nothing behind.
func TestScan(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"self", "nobody"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.writeSample()
			if user == "nobody" {
				s.asNobody()
			}
			before := tree(t, s.work)
			scanForms(t, s)
			if after := tree(t, s.work); after != before {
				t.Errorf("the scan changed the tree: %s\nbefore: %s", after, before)
			}
		})
	}
}

func scanForms(t *testing.T, s *site) {
	table := s.must(0, "scan", "work").stdout
	for _, want := range []string{"SEVERITY", "docs.markdown.link", "README.md:3", "calc/calc.go:10", "8 gaps"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q:\n%s", want, table)
		}
	}

	raw := s.must(0, "scan", "work", "-o", "json")
	top := decode[map[string]json.RawMessage](t, raw)
	if got := slices.Sorted(maps.Keys(top)); !slices.Equal(got, []string{"diagnostics", "gaps", "summary"}) {
		t.Errorf("the document has %v", got)
	}
	d := decode[document](t, raw)
	var found []string
	for _, g := range d.Gaps {
		found = append(found, fmt.Sprintf("%v %v:%v", g["rule"], g["path"], g["line"]))
		for _, key := range []string{
			"fingerprint", "rule", "type", "severity", "path", "line", "end_line", "symbol", "message", "remedy", "detector", "state",
		} {
			if _, ok := g[key]; !ok {
				t.Errorf("a gap without %s: %v", key, g)
			}
		}
		if g["state"] != "open" || g["remedy"] == "" || g["fingerprint"] == "" || strings.HasPrefix(g["path"].(string), "/") {
			t.Errorf("gap: %v", g)
		}
	}
	if !slices.Equal(found, sampleGaps) {
		t.Errorf("gaps: %v, want %v", found, sampleGaps)
	}
	if d.Diagnostics == nil || len(d.Diagnostics) != 0 || d.Summary["total"] != float64(len(sampleGaps)) || d.Summary["complete"] != true {
		t.Errorf("diagnostics %v, summary %v", d.Diagnostics, d.Summary)
	}
	checkSARIF(t, s.must(0, "scan", "work", "--format", "sarif"))

	for severity, code := range map[string]int{"critical": 0, "high": 0, "medium": 3, "low": 3, "info": 3} {
		s.must(code, "scan", "work", "--fail-on", severity)
	}
	s.must(2, "scan", "work", "--fail-on", "terrible")
	s.must(2, "scan", "work", "--format", "yaml")
	s.must(2, "scan", "work/README.md")
	if r := s.must(1, "scan", "nowhere"); !strings.Contains(r.stderr, "nowhere") || strings.Contains(r.stderr, "goroutine") {
		t.Errorf("%v", r)
	}
	out := filepath.Join(s.home(), "out.sarif")
	s.must(3, "scan", "work", "--format", "sarif", "--output-file", out, "--fail-on", "low")
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	checkSARIF(t, result{stdout: string(content)})
}

func checkSARIF(t *testing.T, r result) {
	t.Helper()
	log := decode[struct {
		Version string `json:"version"`
		Schema  string `json:"$schema"`
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string `json:"name"`
					Rules []struct {
						ID string `json:"id"`
					} `json:"rules"`
				} `json:"driver"`
			} `json:"tool"`
			Results []struct {
				RuleID    string `json:"ruleId"`
				RuleIndex int    `json:"ruleIndex"`
				Level     string `json:"level"`
				Message   struct {
					Text string `json:"text"`
				} `json:"message"`
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct {
							URI string `json:"uri"`
						} `json:"artifactLocation"`
						Region struct {
							StartLine int `json:"startLine"`
						} `json:"region"`
					} `json:"physicalLocation"`
				} `json:"locations"`
				PartialFingerprints map[string]string `json:"partialFingerprints"`
			} `json:"results"`
		} `json:"runs"`
	}](t, r)
	if log.Version != "2.1.0" || !strings.Contains(log.Schema, "sarif") || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("not SARIF 2.1.0: %v", r)
	}
	run := log.Runs[0]
	var found []string
	for _, one := range run.Results {
		at := one.Locations[0].PhysicalLocation
		found = append(found, fmt.Sprintf("%s %s:%d", one.RuleID, at.ArtifactLocation.URI, at.Region.StartLine))
		if one.Message.Text == "" || len(one.PartialFingerprints) == 0 || run.Tool.Driver.Rules[one.RuleIndex].ID != one.RuleID {
			t.Errorf("result: %+v", one)
		}
		if want := map[bool]string{true: "warning", false: "note"}[slices.Index(sampleGaps, found[len(found)-1]) < 3]; one.Level != want {
			t.Errorf("%s has level %s, want %s", found[len(found)-1], one.Level, want)
		}
	}
	if !slices.Equal(found, sampleGaps) {
		t.Errorf("results: %v, want %v", found, sampleGaps)
	}
}

// What the sample does not lack is found where it lacks.
func TestScanRules(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("part/go.mod", "module example.org/part\n")
	s.write("part/part.go", "package part\n")
	s.write("bare.py", "LIMIT = 3\n")
	s.write("tool.py", "\"\"\"A tool.\"\"\"\n\n\nclass Tool:\n    pass\n")
	s.write("maze/maze.go", "// Package maze has many ways.\npackage maze\n\nfunc walk(n int) int {\n"+
		strings.Repeat("\tif n > 1 {\n\t\tn--\n\t}\n", 20)+"\treturn n\n}\n")
	want := []string{
		"docs.readme .:0", "docs.python.module bare.py:1", "code.complexity maze/maze.go:4",
		"docs.readme part:0", "docs.go.package part/part.go:1", "docs.python.class tool.py:4",
	}
	var found []string
	for _, g := range decode[document](t, s.must(0, "scan", "work", "-o", "json")).Gaps {
		found = append(found, fmt.Sprintf("%v %v:%v", g["rule"], g["path"], g["line"]))
	}
	if !slices.Equal(found, want) {
		t.Errorf("gaps: %v, want %v", found, want)
	}
}

// A scan that is interrupted ends soon and leaves nothing either; one that is
// killed leaves no process.
func TestScanIsEnded(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			endScan(t, sig)
		})
	}
}

func endScan(t *testing.T, sig syscall.Signal) {
	s := newSite(t)
	for i := range 2000 {
		s.write(fmt.Sprintf("d%d/f%d.go", i%50, i), "package x\n\nfunc F() {}\n")
	}
	cmd := s.command(t.Context(), "scan", "work", "-o", "json")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); sig != syscall.SIGKILL && code != 130 {
			t.Errorf("exit %d", code)
		}
		if sig == syscall.SIGKILL { // what nobody can clear away
			if err := os.RemoveAll(s.tmp()); err != nil {
				t.Error(err)
			}
		}
	}()
	// Once its detectors run, besides itself.
	if !eventually(patience, func() bool { return len(s.processes()) >= 3 }) {
		t.Fatal("no detectors were started")
	}
	all := s.watchSite(cmd.Process.Pid)
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	within := 5 * time.Second
	if sig == syscall.SIGKILL {
		within = time.Second
	}
	allGone(t, within, all)
}
