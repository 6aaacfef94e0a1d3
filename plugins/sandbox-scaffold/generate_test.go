package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/txtar"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// corpus writes the corpus to a new directory; crlf is in CRLF.
func corpus(t testing.TB) string {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/corpus.txtar")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "crlf/") {
			f.Data = bytes.ReplaceAll(f.Data, []byte("\n"), []byte("\r\n"))
		}
		if f.Name == "py/notail.py" {
			f.Data = bytes.TrimSpace(f.Data)
		}
		write(t, root, f.Name, f.Data)
	}
	return root
}

// snapshot is all content beneath root.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestClosesWhatTheDetectorFinds(t *testing.T) {
	client, root := detectorDocs(t), corpus(t)
	before := snapshot(t, root)
	found := scan(t, client, root)
	if len(found.Findings) < 50 {
		t.Fatalf("only %d findings", len(found.Findings))
	}
	closed, stay := fix(t, root, found.Findings)
	for _, why := range stay {
		t.Errorf("not closed: %s", why)
	}
	after := scan(t, client, root)
	for _, f := range after.Findings {
		t.Errorf("still there: %s", describe(f))
	}
	if len(after.Diagnostics) > len(found.Diagnostics) {
		t.Errorf("diagnostics %v", after.Diagnostics)
	}
	t.Logf("%d of %d findings closed", closed, len(found.Findings))

	now := snapshot(t, root)
	for name, text := range now {
		if strings.HasSuffix(name, ".go") && isFormatted(before[name]) && !isFormatted(text) {
			t.Errorf("gofmt would change %s", name)
		}
	}
	vet := exec.CommandContext(t.Context(), "go", "vet", "./...")
	vet.Dir = root
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
	checkPython(t, before, now)

	fixed := snapshot(t, root)
	for _, f := range found.Findings {
		result, err := generate(t, root, taskOf(f))
		if err != nil || result.GetOutcome() != pluginv1.GenerateResult_OUTCOME_UNCHANGED {
			t.Errorf("%s the second time: %v, %v", describe(f), result, err)
		}
	}
	for name, text := range snapshot(t, root) {
		if fixed[name] != text {
			t.Errorf("%s was changed the second time", name)
		}
	}
}

func isFormatted(text string) bool {
	out, err := format.Source([]byte(text))
	return err == nil && string(out) == text
}

// sameTree compares two Python files by their syntax trees without docstrings;
// an expression statement of an ellipsis or string that was the whole body may
// have become one beside it.
const sameTree = `
import ast, sys, warnings
warnings.simplefilter("ignore")
def bare(path):
    tree = ast.parse(open(path, "rb").read())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant) and isinstance(node.body[0].value.value, str):
                node.body = node.body[1:]
    return ast.dump(tree)
for line in sys.stdin:
    old, new = line.rstrip("\n").split("\t")
    try:
        want = bare(old)
    except (SyntaxError, ValueError, RecursionError):
        continue
    if want != bare(new):
        print("differs:", new)
`

// checkPython has Python itself confirm that only docstrings differ.
func checkPython(t *testing.T, before, after map[string]string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("there is no python3: that nothing but docstrings differs is not checked by it")
		return
	}
	dir := t.TempDir()
	var pairs strings.Builder
	n := 0
	for name, old := range before {
		if strings.HasSuffix(name, ".py") && old != after[name] {
			n++
			a, b := fmt.Sprintf("%d-a.py", n), fmt.Sprintf("%d-b.py", n)
			write(t, dir, a, []byte(old))
			write(t, dir, b, []byte(after[name]))
			fmt.Fprintf(&pairs, "%s\t%s\n", filepath.Join(dir, a), filepath.Join(dir, b))
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", sameTree)
	cmd.Stdin = strings.NewReader(pairs.String())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("python3: %v\n%s", err, out)
	}
	t.Logf("python3 compared %d files", n)
}

// Every one of 100 runs makes the same bytes.
func TestSameBytes(t *testing.T) {
	client := detectorDocs(t)
	findings := scan(t, client, corpus(t)).Findings
	var first [sha256.Size]byte
	for run := range 100 {
		root := corpus(t)
		fix(t, root, findings)
		text, err := json.Marshal(snapshot(t, root)) // maps are sorted
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if run == 0 {
			first = sum
		}
		if sum != first {
			t.Fatalf("run %d made other bytes", run)
		}
	}
}

func compileSchema(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	return c.MustCompile(name)
}

// The plugin takes what the schema takes, and refuses what it refuses.
func TestTasksConform(t *testing.T) {
	schema := compileSchema(t, "generator-task.schema.json")
	compileSchema(t, "generator-result.schema.json")
	good := `{"contract":"sop.generator/v1","id":"t","goal":"g","gap":{"type":"documentation_incomplete","rule":"docs.readme","path":"."}`
	for name, tt := range map[string]struct {
		text string
		ok   bool
	}{
		"least":      {good + "}", true},
		"all":        {good + `,"success_criteria":["c"],"scope":["**"],"protected":["x"],"verify":[{"name":"test","command":["go","test"]}],"budget":{"wall_seconds":1,"money":0.5,"model_tokens":3},"seed":4,"scaffold":{"name":"readme","parameters":{}},"previous":{"a":"` + strings.Repeat("0", 64) + `"}}`, true},
		"unknown":    {good + `,"colour":1}`, false},
		"no goal":    {strings.Replace(good, `"goal":"g",`, "", 1) + "}", false},
		"contract":   {strings.Replace(good, "v1", "v2", 1) + "}", false},
		"wrong type": {good + `,"scope":"x"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); (err == nil) != tt.ok {
				t.Errorf("the schema says %v", err)
			}
			if _, err := readTask([]byte(tt.text)); (err == nil) != tt.ok {
				t.Errorf("the plugin says %v", err)
			}
		})
	}
	for _, f := range scan(t, detectorDocs(t), corpus(t)).Findings {
		text, err := json.Marshal(taskOf(f))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", describe(f), err)
		}
	}
}

func TestScopeAndRefusals(t *testing.T) {
	task := func(gap map[string]any, more map[string]any) map[string]any {
		t := map[string]any{"contract": contract, "id": "t", "goal": "g", "gap": gap}
		for k, v := range more {
			t[k] = v
		}
		return t
	}
	readme := map[string]any{"type": "documentation_incomplete", "rule": "docs.readme", "path": "."}
	const (
		changed = pluginv1.GenerateResult_OUTCOME_CHANGED
		gaveUp  = pluginv1.GenerateResult_OUTCOME_GAVE_UP
	)
	tests := []struct {
		name string
		task map[string]any
		want pluginv1.GenerateResult_Outcome
	}{
		{"in scope", task(readme, map[string]any{"scope": []string{"*.md"}}), changed},
		{"out of scope", task(readme, map[string]any{"scope": []string{"docs/**"}}), gaveUp},
		{"protected", task(readme, map[string]any{"protected": []string{"README.md"}}), gaveUp},
		{"no scaffold for it", task(map[string]any{"type": "infrastructure", "rule": "infra.disk"}, nil), gaveUp},
		{"unknown scaffold", task(readme, map[string]any{"scaffold": map[string]any{"name": "nope"}}), gaveUp},
		{"outside", task(map[string]any{"type": "documentation_incomplete", "rule": "docs.go.exported", "path": "../a.go", "symbol": "A"}, nil), gaveUp},
		{"vanished", task(map[string]any{"type": "documentation_incomplete", "rule": "docs.go.exported", "path": "a.go", "symbol": "A"}, nil), gaveUp},
		{"by name", task(readme, map[string]any{"scaffold": map[string]any{"name": "license", "parameters": map[string]any{"license": "MIT", "holder": "A. Person", "year": "2026"}}}), changed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := corpus(t)
			before := snapshot(t, root)
			result, err := generate(t, root, tt.task)
			if err != nil || result.GetOutcome() != tt.want {
				t.Fatalf("got %v, %v", result, err)
			}
			if same := fmt.Sprint(before) == fmt.Sprint(snapshot(t, root)); same != (tt.want == gaveUp) {
				t.Errorf("the workspace is the same: %t", same)
			}
		})
	}
	if _, err := generate(t, "relative", task(readme, nil)); status.Code(err).String() != "InvalidArgument" {
		t.Errorf("a relative work directory: %v", err)
	}
}

// A link that leads out of the work directory is not followed.
func TestLinksOutside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	write(t, outside, "a.go", []byte("package a\n\nfunc F() {}\n"))
	if err := os.Symlink(filepath.Join(outside, "a.go"), filepath.Join(root, "a.go")); err != nil {
		t.Fatal(err)
	}
	result, err := generate(t, root, map[string]any{
		"contract": contract, "id": "t", "goal": "g",
		"gap": map[string]any{"type": "documentation_incomplete", "rule": "docs.go.exported", "path": "a.go", "symbol": "F"},
	})
	if err == nil && result.GetOutcome() == pluginv1.GenerateResult_OUTCOME_CHANGED {
		t.Errorf("got %v", result)
	}
	if text := snapshot(t, outside)["a.go"]; strings.Contains(text, "//") {
		t.Errorf("written through the link: %s", text)
	}
}

func TestTestsThatAreWrittenRun(t *testing.T) {
	root := t.TempDir()
	write(t, root, "go.mod", []byte("module example.com/x\n\ngo 1.24\n"))
	write(t, root, "x.go", []byte("// Package x is.\npackage x\n\nimport \"io\"\n\ntype T struct{ n *int }\n\nfunc (t *T) Sum(a, b int, more ...io.Reader) (int, error) { return a + b, nil }\n\nfunc Deref(p *int) int { return *p }\n\nfunc Any[T any](v T) {}\n"))
	write(t, root, "m.py", []byte("def add(a: int, b: int = 2) -> int:\n    return a + b\n\nasync def wait(s: str): return s\n\ndef odd(x): return x\n"))
	gap := func(file, symbol string) map[string]any {
		return map[string]any{
			"contract": contract, "id": "t", "goal": "g", "gap": map[string]any{"type": "test_coverage", "path": file, "symbol": symbol},
		}
	}
	for _, tt := range []struct {
		file, symbol string
		want         pluginv1.GenerateResult_Outcome
	}{
		{"x.go", "T.Sum", pluginv1.GenerateResult_OUTCOME_CHANGED},
		{"x.go", "Deref", pluginv1.GenerateResult_OUTCOME_CHANGED},
		{"x.go", "Any", pluginv1.GenerateResult_OUTCOME_GAVE_UP},
		{"m.py", "add", pluginv1.GenerateResult_OUTCOME_CHANGED},
		{"m.py", "wait", pluginv1.GenerateResult_OUTCOME_CHANGED},
		{"m.py", "odd", pluginv1.GenerateResult_OUTCOME_GAVE_UP},
		{"x.go", "T.Sum", pluginv1.GenerateResult_OUTCOME_UNCHANGED},
		{"m.py", "add", pluginv1.GenerateResult_OUTCOME_UNCHANGED},
	} {
		result, err := generate(t, root, gap(tt.file, tt.symbol))
		if err != nil || result.GetOutcome() != tt.want {
			t.Errorf("%s: %v, %v", tt.symbol, result, err)
		}
	}
	commands := [][]string{{"go", "vet", "./..."}, {"go", "test", "-v", "./..."}}
	if _, err := exec.LookPath("python3"); err == nil {
		commands = append(commands, []string{"python3", "-B", "-m", "unittest", "discover", "-v"})
	} else {
		t.Log("there is no python3: the Python tests are not run")
	}
	for _, argv := range commands {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "Ran 0 tests") {
			t.Errorf("%v: %v\n%s", argv, err, out)
		}
	}
}

// TestOnLargeTrees closes everything in a copy of this repository whose doc
// comments were taken out, and in Python's standard library.
func TestOnLargeTrees(t *testing.T) {
	if os.Getenv("SOP_TEST_LONG") == "" {
		t.Skip("SOP_TEST_LONG is not set: whole trees take minutes")
	}
	client := detectorDocs(t)
	for name, prepare := range map[string]func(*testing.T, string){"repository": bareRepository, "python": pythonLibrary} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			prepare(t, root)
			before := snapshot(t, root)
			found := scan(t, client, root)
			start := time.Now()
			closed, stay := fixInOne(t, root, found.Findings)
			took := time.Since(start)
			for _, why := range stay {
				t.Logf("not closed: %s", why)
			}
			left := scan(t, client, root).Findings
			t.Logf("%s: %d findings, %d closed, %d left; %.0f patches a second", name, len(found.Findings), closed, len(left), float64(closed)/took.Seconds())
			if len(left) > len(stay) {
				for _, f := range left {
					t.Errorf("still there: %s", describe(f))
				}
			}
			now := snapshot(t, root)
			for file, text := range now {
				if strings.HasSuffix(file, ".go") && isFormatted(before[file]) && !isFormatted(text) {
					t.Errorf("gofmt would change %s", file)
				}
			}
			if name == "repository" {
				vet := exec.CommandContext(t.Context(), "go", "build", "./...")
				vet.Dir = root
				if out, err := vet.CombinedOutput(); err != nil {
					t.Errorf("go build: %v\n%s", err, out)
				}
			}
			checkPython(t, before, now)
		})
	}
}
