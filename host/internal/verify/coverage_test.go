package verify

import (
	"strings"
	"testing"
	"time"
)

// half is a package of which the tests execute one of two functions.
var half = map[string]string{
	"go.mod":        "module example.com/half\n\ngo 1.24\n",
	"a/a.go":        "package a\n\n// One is one.\nfunc One() int { return 1 }\n\n// Two is two.\nfunc Two() int { return 2 }\n",
	"a/a_test.go":   "package a\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tif One() != 1 {\n\t\tt.Fatal(One())\n\t}\n}\n",
	"b/b.go":        "package b\n\n// B is b.\nfunc B() int { return 1 }\n", // without tests
	"c/c.go":        "package c\n\n// C is c.\nfunc C() int { return 1 }\n",
	"c/c_test.go":   "package c_test\n\nimport (\n\t\"testing\"\n\n\t\"example.com/half/c\"\n)\n\nfunc TestC(t *testing.T) {\n\tif c.C() != 1 {\n\t\tt.Fatal(1)\n\t}\n}\n",
	"d/data.txt":    "no go\n",
	"old/old.go":    "package old\n\n// Old is gone soon.\nfunc Old() int { return 1 }\n",
	"old/a_test.go": "package old\n\nimport \"testing\"\n\nfunc TestNothing(*testing.T) {}\n",
}

func halfSpec(t *testing.T, dir string, edits map[string]string) Spec {
	t.Helper()
	return Spec{
		Workspace: dir, Patch: patchOf(t, dir, edits), Profile: profile(t),
		Steps: []Step{{Name: "test", Runner: RunnerGoTest, Timeout: 2 * time.Minute}},
	}
}

const third = "\n// Three is three.\nfunc Three() int { return 3 }\n"

// hides is a test main that takes away what was written of coverage.
const hides = "package a\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestMain(m *testing.M) {\n\tcode := m.Run()\n\t_ = os.Remove(\"/workspace/.sop-coverage\")\n\tos.Exit(code)\n}\n"

// forges makes the program say that everything was executed.
const forges = "package a\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestMain(m *testing.M) {\n\tcode := m.Run()\n\t_ = os.WriteFile(\"/workspace/.sop-coverage\", []byte(\"mode: set\\nx.go:1.1,2.2 1000 1\\n\"), 0o644)\n\tos.Exit(code)\n}\n"

func TestCoverage(t *testing.T) {
	needsStrict(t)
	dir := t.TempDir()
	write(t, dir, half)
	for name, test := range map[string]struct {
		edits         map[string]string
		change        func(*Spec)
		before, after Share
		packages      int
		lowered       bool
		why           string // it was not measured
	}{
		"falls": {
			edits:  map[string]string{"a/a.go": half["a/a.go"] + third},
			before: Share{1, 2}, after: Share{1, 3}, packages: 1, lowered: true,
		},
		"rises": {
			edits:  map[string]string{"a/more_test.go": strings.NewReplacer("One", "Two", "!= 1", "!= 2").Replace(half["a/a_test.go"])},
			before: Share{1, 2}, after: Share{2, 2}, packages: 1,
		},
		"stays": {
			edits:  map[string]string{"a/a.go": strings.Replace(half["a/a.go"], "return 2", "return 1 + 1", 1)},
			before: Share{1, 2}, after: Share{1, 2}, packages: 1,
		},
		"no tests": {
			edits:  map[string]string{"b/b.go": half["b/b.go"] + third},
			before: Share{0, 1}, after: Share{0, 2}, packages: 1,
		},
		"tests in a package of their own": {
			edits:  map[string]string{"c/c.go": half["c/c.go"] + third},
			before: Share{1, 1}, after: Share{1, 2}, packages: 1, lowered: true,
		},
		"one falls and one rises": {
			edits: map[string]string{
				"a/a.go": half["a/a.go"] + third, "b/b_test.go": "package b\n\nimport \"testing\"\n\nfunc TestB(t *testing.T) {\n\tif B() != 1 {\n\t\tt.Fatal()\n\t}\n}\n",
			},
			before: Share{1, 3}, after: Share{2, 4}, packages: 2, lowered: true,
		},
		"a new package": {
			edits: map[string]string{"n/n.go": "package n\n" + third},
			after: Share{0, 1}, packages: 1,
		},
		"a new package beside a covered one": {
			edits:  map[string]string{"n/n.go": "package n\n" + third, "c/c.go": strings.Replace(half["c/c.go"], "return 1", "return 2 - 1", 1)},
			before: Share{1, 1}, after: Share{1, 2}, packages: 2, lowered: true,
		},
		"forged": { // which keeps the flag down, and does nothing else
			edits:  map[string]string{"a/a.go": half["a/a.go"] + third, "a/main_test.go": forges},
			before: Share{1, 2}, after: Share{1000, 1000}, packages: 1,
		},
		"comments": {
			edits: map[string]string{"a/a.go": strings.Replace(half["a/a.go"], "is one", "is the number one", 1)},
			why:   "no statements of Go",
		},
		"no go at all": {edits: map[string]string{"d/data.txt": "still no go\n"}, why: "no statements of Go"},
		"says nothing": {edits: map[string]string{"a/a.go": half["a/a.go"] + third, "a/main_test.go": hides}, why: "a: its tests do not say what they execute"},
		"not to be": {
			edits:  map[string]string{"a/a.go": half["a/a.go"] + third},
			change: func(s *Spec) { s.Steps[0].NoCoverage = true }, why: "the verify step test is not to",
		},
		"no such step": {
			edits:  map[string]string{"a/a.go": half["a/a.go"] + third},
			change: func(s *Spec) { s.Steps = []Step{command("s", "true")} }, why: "no verify step has the runner go-test",
		},
		"not passed": {edits: map[string]string{"a/a.go": strings.Replace(half["a/a.go"], "return 1", "return 3", 1)}, why: "the patch has not passed"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := halfSpec(t, dir, test.edits)
			if test.change != nil {
				test.change(&spec)
			}
			v, err := verifier().Verify(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if v.Passed == (test.why == "the patch has not passed") {
				tell(t, v)
				t.Fatal(v.Why)
			}
			c := v.Coverage
			if test.why != "" {
				if !strings.Contains(c.NotMeasured, test.why) || c.Lowered || c.Packages != nil {
					t.Errorf("%+v", c)
				}
				return
			}
			if c.NotMeasured != "" || c.Before != test.before || c.After != test.after || c.Lowered != test.lowered || len(c.Packages) != test.packages {
				tell(t, v)
				t.Errorf("%+v", c)
			}
		})
	}
}

// Where there is no telling what was, nothing is said to have fallen.
func TestCoverageOfABrokenBase(t *testing.T) {
	needsStrict(t)
	dir := t.TempDir()
	write(t, dir, half)
	write(t, dir, map[string]string{"a/a.go": "package a\n\nfunc One() int { return missing }\n"})
	v, err := verifier().Verify(t.Context(), halfSpec(t, dir, map[string]string{"a/a.go": half["a/a.go"]}))
	if err != nil {
		t.Fatal(err)
	}
	if !v.Passed || !strings.Contains(v.Coverage.NotMeasured, "cannot be built without the patch") || v.Coverage.Lowered {
		tell(t, v)
		t.Errorf("%+v", v.Coverage)
	}
}

// What the tree has without patches is measured once.
func TestCoverageIsRemembered(t *testing.T) {
	b := new(baseline)
	if known, missing := b.covered(map[string]string{"a": "a"}); len(known) != 0 || len(missing) != 1 {
		t.Fatal(known, missing)
	}
	b.remember(map[string]Share{"a": {1, 2}})
	if known, missing := b.covered(map[string]string{"a": "a", "b": "b"}); known["a"] != (Share{1, 2}) || len(missing) != 1 || missing["b"] != "b" {
		t.Error(known, missing)
	}
}

func TestReadProfile(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want Share
		bad  bool
	}{
		"two blocks":   {text: "mode: set\nm/a.go:1.1,2.2 3 1\nm/a.go:3.1,4.2 2 0\n", want: Share{3, 5}},
		"counts":       {text: "mode: count\nm/a.go:1.1,2.2 3 17\n", want: Share{3, 3}},
		"nothing":      {text: ""},
		"no blocks":    {text: "mode: set\n"},
		"spaces":       {text: "mode: set\nm/a b.go:1.1,2.2 3 1\n", want: Share{3, 3}},
		"no mode":      {text: "m/a.go:1.1,2.2 3 1\n", bad: true},
		"no number":    {text: "mode: set\nm/a.go:1.1,2.2 x 1\n", bad: true},
		"negative":     {text: "mode: set\nm/a.go:1.1,2.2 -3 1\n", bad: true},
		"overflow":     {text: "mode: set\nx 1073741824 1\nx 1073741824 1\n", bad: true},
		"half a line":  {text: "mode: set\nx 1\n", bad: true},
		"endless line": {text: "mode: set\n" + strings.Repeat("x", 2<<20), bad: true},
	} {
		got, err := readProfile(strings.NewReader(test.text))
		if (err != nil) != test.bad || err == nil && got != test.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestShare(t *testing.T) {
	for _, test := range []struct {
		a, b  Share
		below bool
	}{
		{Share{1, 2}, Share{2, 4}, false},
		{Share{49, 100}, Share{1, 2}, true},
		{Share{0, 0}, Share{1, 2}, false},
		{Share{0, 5}, Share{0, 0}, false},
	} {
		if got := test.a.below(test.b); got != test.below {
			t.Errorf("%v below %v: %v", test.a, test.b, got)
		}
	}
	if got := (Share{1, 3}).String(); got != "33.3% of 3 statements" {
		t.Error(got)
	}
}

func TestCodeOf(t *testing.T) {
	const base = "package a\n\n// One.\nfunc One() int { return 1 /* one */ }\n"
	for text, same := range map[string]bool{
		strings.Replace(base, "// One.", "// Another.\n//\n// And more.", 1): true,
		strings.Replace(base, "return 1", "return 2", 1):                     false,
		"//go:build never\n\n" + base:                                        false,
		strings.Replace(base, "// One.", "//go:noinline", 1):                 false,
		strings.Replace(base, "// One.", "//line x.go:1", 1):                 false,
		base + "\n": true,
	} {
		if got := string(codeOf([]byte(base))) == string(codeOf([]byte(text))); got != same {
			t.Errorf("%q: %v", text, got)
		}
	}
}
