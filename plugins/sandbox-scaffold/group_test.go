package main

import (
	"encoding/json"
	"strings"
	"testing"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// TestGapsOfOneTask: a task with several gaps of a file is worked on from its end,
// and leaves none of them that one task for each would have closed.
func TestGapsOfOneTask(t *testing.T) {
	root := t.TempDir()
	write(t, root, "go.mod", []byte("module example.com/x\n\ngo 1.25\n"))
	write(t, root, "x.go", []byte("// Package x is.\npackage x\n\nfunc One() {}\n\nfunc Two() {}\n\nfunc Three() {}\n"))
	client := detectorDocs(t)
	var gaps []any
	for _, f := range scan(t, client, root).Findings {
		if f.GetLocation().GetPath() == "x.go" {
			gaps = append(gaps, taskOf(f)["gap"])
		}
	}
	if len(gaps) < 3 {
		t.Fatalf("found %v", gaps)
	}
	result, err := generate(t, root, map[string]any{
		"contract": contract, "id": "t", "gap": gaps[0], "gaps": gaps, "goal": "document all", "kind": "gap",
		"attempt": map[string]any{"number": 1, "most": 3}, "target": map[string]any{"path": "x.go"},
	})
	if err != nil || result.GetOutcome() != pluginv1.GenerateResult_OUTCOME_CHANGED {
		t.Fatalf("%v, %v", result, err)
	}
	if !strings.Contains(result.GetExplanation(), "3 of 3 gaps") {
		t.Errorf("explained by %q", result.GetExplanation())
	}
	if left := scan(t, client, root).Findings; len(left) > 0 && left[0].GetLocation().GetPath() == "x.go" {
		t.Errorf("left %v", left)
	}
}

// TestTheWholePackage: what the host sends is read, and what it does not is refused.
func TestTheWholePackage(t *testing.T) {
	whole := `{"contract":"sop.generator/v1","id":"t","kind":"gap","title":"x","workspace":"w","priority":410,"gap":{"type":"code_quality","severity":"high","remedy":"r","evidence":"e"},
		"gaps":[{"type":"code_quality"}],"goal":"g","success_criteria":["c"],"requirements":["r"],"target":{"path":"a"},"scope":["**"],"protected":["x"],"verify":[{"name":"build"}],
		"approval":"one","budget":{"wall_seconds":1},"seed":1,"scaffold":{"name":"s"},"dependencies":{"tasks":["t"]},"attempt":{"number":1,"most":2}}`
	if !json.Valid([]byte(whole)) {
		t.Fatal("no JSON")
	}
	if _, err := readTask([]byte(whole)); err != nil {
		t.Error(err)
	}
	if _, err := readTask([]byte(strings.Replace(whole, `"seed"`, `"sead"`, 1))); err == nil {
		t.Error("a word that is not known is read")
	}
}
