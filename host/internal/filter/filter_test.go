package filter_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sop-host/sop/host/internal/filter"
)

var schema = filter.Schema{
	{Name: "severity", Kind: filter.Ranked, Words: []string{"low", "medium", "high"}},
	{Name: "rule", Kind: filter.Text},
	{Name: "path", Kind: filter.Path},
	{Name: "state", Kind: filter.Word, Words: []string{"open", "resolved"}},
	{Name: "line", Kind: filter.Number},
	{Name: "resolved_at", Kind: filter.Time, Absent: true},
	{Name: "operations", Kind: filter.List},
}

var item = map[string]filter.Value{
	"severity": {Number: 2}, "rule": {Text: "docs.markdown.link"}, "path": {Text: "host/internal/a*b.go"}, "state": {Text: "open"},
	"line": {Number: 12}, "resolved_at": {Absent: true}, "operations": {List: []string{"gap.read", "x"}},
}

func value(name string) filter.Value { return item[name] }

func TestMatch(t *testing.T) {
	for input, want := range map[string]bool{
		"":                                         true,
		"  ":                                       true,
		"severity >= medium":                       true,
		"severity > medium":                        false,
		"severity != low AND line = 12":            true,
		"severity = low OR line < 13":              true,
		"severity = low OR line < 12":              false,
		`rule = "docs.*"`:                          true,
		`rule = docs.*.link`:                       true,
		`rule = *down*n*`:                          true,
		`rule = "docs.*.lin"`:                      false,
		`rule != "docs.*"`:                         false,
		`rule : "down"`:                            true,
		`rule : "DOWN"`:                            false,
		`path : "host/"`:                           true,
		`path : host`:                              true,
		`path : hos`:                               false,
		`path : "."`:                               true,
		`path = "host/internal/a\*b.go"`:           true,
		`path = "host/internal/a\\b.go"`:           false,
		`operations : gap.*`:                       true,
		`operations : gap`:                         false,
		`resolved_at > 2020-01-01`:                 false,
		`NOT resolved_at > 2020-01-01`:             true,
		`NOT NOT line = 12`:                        true,
		`line=1 OR line=12 AND state=open`:         true,
		`(line=1 OR line=12) AND state=open`:       true,
		`line=12 OR line=1 AND state=resolved`:     true,
		`(line=12 OR line=1) AND state = resolved`: false,
	} {
		n, err := filter.Parse(input, schema)
		if err != nil {
			t.Errorf("%s: %v", input, err)
			continue
		}
		if got := n.Match(value); got != want {
			t.Errorf("%s = %v", input, got)
		}
	}
}

func TestErrorsHaveTheirColumn(t *testing.T) {
	for input, want := range map[string]struct {
		column  int
		problem string
	}{
		"severity >= hgih":               {13, "one of low, medium, high"},
		"sevrity = low":                  {1, "no field"},
		"line = 1 line = 2":              {10, "expected AND, OR"},
		"line = x":                       {8, "whole number"},
		"rule < a":                       {6, "operator of rule"},
		`rule = "a`:                      {8, "not closed"},
		`rule = "ü\n"`:                   {10, "backslash"},
		"(line = 1":                      {10, "closing parenthesis"},
		"line = 1)":                      {9, "expected AND"},
		"line =":                         {7, "expected a value"},
		"AND":                            {1, "no field"},
		"line ! 1":                       {6, "alone"},
		"resolved_at < yesterday":        {15, "a time"},
		"rule : a*b":                     {8, "asterisk"},
		"rule = {}":                      {8, "double quotes"},
		"rule = \"a\x00\"":               {10, "control"},
		strings.Repeat("(", 40) + "line": {18, "levels"},
		strings.Repeat("NOT ", 20):       {69, "levels"},
		strings.Repeat("line=1 OR ", 70): {641, "conditions"},
		strings.Repeat(" ", 3000):        {1, "longer"},
		"\xff":                           {1, "UTF-8"},
	} {
		_, err := filter.Parse(input, schema)
		var e *filter.Error
		if !errors.As(err, &e) || e.Column != want.column || !strings.Contains(e.Problem, want.problem) {
			t.Errorf("%.40q: %v, want column %d and %q", input, err, want.column, want.problem)
		}
	}
	_, err := filter.Parse("severity >= hgih AND line = 1", schema)
	var e *filter.Error
	if errors.As(err, &e); e.Snippet() != "severity >= hgih AND line = 1\n            ^" {
		t.Errorf("snippet:\n%s", e.Snippet())
	}
}

func TestOrder(t *testing.T) {
	keys, err := filter.ParseOrder(" severity desc,path , line asc", schema)
	if err != nil || len(keys) != 3 || !keys[0].Descending || keys[1].Field.Name != "path" || keys[2].Descending {
		t.Fatalf("%+v, %v", keys, err)
	}
	other := func(name string) filter.Value {
		if name == "path" {
			return filter.Value{Text: "z"}
		}
		return item[name]
	}
	if filter.Compare(keys, value, other) >= 0 || filter.Compare(keys, other, value) <= 0 || filter.Compare(keys, value, value) != 0 {
		t.Error("order by path")
	}
	for input, column := range map[string]int{"sev": 1, "path, path": 6, "path up": 1, "path,": 6, "operations": 1, "path desc asc": 1, ",": 1} {
		var e *filter.Error
		if _, err := filter.ParseOrder(input, schema); !errors.As(err, &e) || e.Column != column {
			t.Errorf("%q: %v, want column %d", input, err, column)
		}
	}
	if keys, err := filter.ParseOrder("  ", schema); keys != nil || err != nil {
		t.Errorf("empty: %v, %v", keys, err)
	}
}

// What is parsed can be matched, in bounded time; what is not says where.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", `severity >= high AND rule = "docs.*" AND path : "host/"`, "NOT (line = 1 OR line != 2)", `rule = "\*"`, "((", "resolved_at < 2020-01-01", "a\xffb", "severity desc, path"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		begin := time.Now()
		n, err := filter.Parse(input, schema)
		check(t, input, err)
		if err == nil {
			n.Match(value)
		}
		_, err = filter.ParseOrder(input, schema)
		check(t, input, err)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func check(t *testing.T, input string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *filter.Error
	if !errors.As(err, &e) || e.Column < 1 || e.Column > utf8.RuneCountInString(input)+1 || !strings.HasSuffix(e.Snippet(), "^") {
		t.Errorf("%q: %#v", input, err)
	}
}
