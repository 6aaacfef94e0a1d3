package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func configured(t *testing.T, block string) (*generator, error) {
	t.Helper()
	g := newGenerator()
	return g, g.configure(t.Context(), sdk.NewConfig([]byte(block), t.TempDir()))
}

// What cannot work is refused with the attribute that is to blame.
func TestConfigure(t *testing.T) {
	for block, attribute := range map[string]string{
		`{"command":["true"]}`: "",
		`{"command":["true"],"stdin":"none","timeout":"1m","exit":{"2":"needs_person"},"read":[{"from":"a.json"}]}`: "",
		`{"command":[]}`: "command",
		`{"command":["true"],"env_pass":["PATH"]}`:           "env_pass",
		`{"command":["true"],"env_pass":["PLUGIN_X"]}`:       "env_pass",
		`{"command":["true"],"timeout":"soon"}`:              "timeout",
		`{"command":["true"],"timeout":"-1s"}`:               "timeout",
		`{"command":["true"],"prompt":"{{.goal"}`:            "prompt",
		`{"command":["true"],"stdin":"all"}`:                 "stdin",
		`{"command":["true"],"exit":{"x":"changed"}}`:        "exit",
		`{"command":["true"],"exit":{"2":"fine"}}`:           "exit",
		`{"command":["true"],"read":[{"from":"../secret"}]}`: "read.from",
	} {
		_, err := configured(t, block)
		if attribute == "" && err != nil || attribute != "" && (err == nil || !strings.HasPrefix(err.Error(), attribute+": ")) {
			t.Errorf("%s: %v", block, err)
		}
	}
}

// Outside of a view nothing is run.
func TestNotIsolated(t *testing.T) {
	g, err := configured(t, `{"command":["sh","-c","touch here"]}`)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(levelVariable, "")
	dir := t.TempDir()
	_, err = g.Generate(t.Context(), &pluginv1.GenerateRequest{WorkDir: dir, TaskJson: []byte(`{"contract":"sop.generator/v1","id":"t","goal":"g"}`)}, func(*pluginv1.GenerateResponse) error { return nil })
	if sdk.FromError(err).Reason != "NOT_ISOLATED" {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "here")); err == nil {
		t.Error("it was run")
	}
}

func TestPrompt(t *testing.T) {
	g, err := configured(t, `{"command":["true"]}`)
	if err != nil {
		t.Fatal(err)
	}
	_, task, err := readTask([]byte(`{"contract":"sop.generator/v1","id":"t","goal":"Document F.",
		"gap":{"type":"documentation_incomplete","rule":"docs.go.exported","path":"a.go","line":3,"symbol":"F","message":"F has no comment."},
		"success_criteria":["the gap is gone"],"scope":["*.go","doc/**"],"protected":["go.mod"],"verify":[{"name":"build","command":["go","build"]},{"name":"lint"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	prompt, err := g.settings.Load().promptFor(task)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Document F.", "by the rule docs.go.exported, in a.go at line 3 (F):\nF has no comment.", "- the gap is gone",
		"Change only: *.go, doc/**.", "Do not change: go.mod.", "this will be run: go build; lint.",
	} {
		if !strings.Contains(string(prompt), want) {
			t.Errorf("the prompt lacks %q:\n%s", want, prompt)
		}
	}
	if strings.Contains(string(prompt), "<no value>") {
		t.Errorf("%s", prompt)
	}
	if _, _, err := readTask([]byte(`{"contract":"sop.generator/v2","id":"t","goal":"g"}`)); sdk.FromError(err).Reason != "BAD_TASK" {
		t.Errorf("another contract: %v", err)
	}
}

func TestAt(t *testing.T) {
	var object map[string]any
	if err := json.Unmarshal([]byte(`{"a":{"b":[{"c":"x"},{"c":"y"}]},"n":1.5,"t":true}`), &object); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"a.b.0.c": "x", "a.b.-1.c": "y", "a.b.2.c": nil, "a.b.x": nil, "n": 1.5, "t": true, "": nil, "n.x": nil, "none": nil,
	} {
		if got := at(object, path); !reflect.DeepEqual(got, want) {
			t.Errorf("at %q: %v", path, got)
		}
	}
}

// Lines are taken once each, whole, from a file that is no link.
func TestFollower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	f := &follower{path: path}
	var got []string
	look := func() { f.each(func(line []byte) { got = append(got, string(line)) }) }
	look()
	add := func(text string) {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	add("one\ntw")
	look()
	add("o\nthree\n")
	look()
	look()
	if strings.Join(got, ",") != "one,two,three" {
		t.Errorf("%q", got)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := readRegular(link, 0); err == nil {
		t.Error("a link was followed")
	}
}

// The end of a line that is too long is left out, and what follows is read.
func TestLongLine(t *testing.T) {
	r := &run{settings: &settings{block: block{Read: []reading{{From: fromStdout, Explanation: "e"}}}}, task: &task{}, send: func(*pluginv1.GenerateResponse) error { return nil }}
	o := &output{run: r, lines: true}
	for range maxLine/1024 + 2 {
		if _, err := o.Write([]byte(`{"e":"` + strings.Repeat("x", 1024))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Write([]byte("\"}\n{\"e\":\"short\"}\nno json\n")); err != nil {
		t.Fatal(err)
	}
	if r.claim.explanation != "short" || len(r.tail) > tailSize {
		t.Errorf("%.40q, %d", r.claim.explanation, len(r.tail))
	}
}
