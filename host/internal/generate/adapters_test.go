package generate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

var hclBlocks = regexp.MustCompile("(?s)```hcl\n(.*?)```")

// documented is the configuration of a plugin as docs/generators.md has it, as
// the host would hand it over.
func documented(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../../../docs/generators.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range hclBlocks.FindAllSubmatch(text, -1) {
		file, diags := hclparse.NewParser().ParseHCL(match[1], "docs/generators.md")
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		content, _, diags := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "plugin", LabelNames: []string{"kind", "name"}}}})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		for _, block := range content.Blocks {
			if block.Labels[1] != name {
				continue
			}
			inner, _, diags := block.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "config"}}})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			return attributes(t, inner.Blocks[0].Body)
		}
	}
	t.Fatalf("docs/generators.md has no plugin %q", name)
	return nil
}

func attributes(t *testing.T, body hcl.Body) map[string]any {
	t.Helper()
	out := make(map[string]any)
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		t.Fatalf("%T", body)
	}
	var readings []any
	for _, block := range native.Blocks {
		readings = append(readings, attributes(t, block.Body))
	}
	if readings != nil {
		out["read"] = readings
	}
	for name, attribute := range native.Attributes {
		value, diags := attribute.Expr.Value(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		text, err := ctyjson.Marshal(value, cty.DynamicPseudoType)
		if err != nil {
			t.Fatal(err)
		}
		var wrapped struct {
			Value any `json:"value"`
		}
		if err := json.Unmarshal(text, &wrapped); err != nil {
			t.Fatal(err)
		}
		out[name] = wrapped.Value
	}
	return out
}

// install puts a stand-in into the workspace, as bin/NAME.
func (b *bench) install(name string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Join(b.workspace, "bin"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	data, err := os.ReadFile(program("standin"))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.workspace, "bin", name), data, 0o755)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// What docs/generators.md configures drives each agent's command line, and reads
// what it says.
func TestAdapters(t *testing.T) {
	for _, c := range []struct {
		name, key   string
		explanation string
		money       string
		tokens      string
		failed      Outcome // where its model does not answer
		says        string
	}{
		{"claude", "ANTHROPIC_API_KEY", "Changed a.txt.", "0.25", "120", Crashed, "the model did not answer"},
		{"codex", "CODEX_API_KEY", "Changed a.txt.", "", "120", Crashed, "the model did not answer"},
		{"aider", "ANTHROPIC_API_KEY", "Applied edit to a.txt", "", "", NothingToDo, "did not answer"},
		{"mini", "ANTHROPIC_API_KEY", "Changed a.txt.", "0.02", "", Crashed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := documented(t, c.name)
			command := config["command"].([]any)
			command[0] = "bin/" + c.name // an agent is installed elsewhere
			b := newBench(t, "exec", config)
			b.install(c.name)
			b.env(c.key + "=secret-of-a-test")
			run := b.run(plainTask)
			if run.Outcome != Changed || !strings.Contains(run.Explanation, c.explanation) || run.Properties["money"] != c.money || run.Properties["model_tokens"] != c.tokens {
				t.Errorf("%v, code %d, %q, %v, %v\n%s%s", run.Outcome, run.Code, run.Explanation, run.Properties, run.Err, run.Output.Stdout.Text, run.Output.Stderr.Text)
			}
			if got := strings.Join(paths(run.Changes), "; "); got != "modify a.txt" {
				t.Errorf("changes %s", got)
			}
			failed := b.run(strings.Replace(plainTask, "it is old", "it is old. FAIL", 1))
			if failed.Outcome != c.failed || !strings.Contains(failed.Explanation, c.says) {
				t.Errorf("without an answer: %v, code %d, %q", failed.Outcome, failed.Code, failed.Explanation)
			}
			for _, r := range []*Run{run, failed} {
				if text, err := json.Marshal(r); err != nil || bytes.Contains(text, []byte("secret-of-a-test")) {
					t.Errorf("the key stands in what is kept: %v", err)
				}
			}
		})
	}
}

// The example of a script runs what it names, and says so where the sandbox does
// not show it.
func TestScriptExample(t *testing.T) {
	config := documented(t, "script")
	b := newBench(t, "exec", config)
	if run := b.run(plainTask); run.Outcome != Crashed || !strings.Contains(run.Explanation, "could not be started") {
		t.Errorf("a command that is not there: %v, %q", run.Outcome, run.Explanation)
	}
	config["command"] = []any{"bin/fix-it"}
	b = newBench(t, "exec", config)
	b.write("bin/fix-it", "#!/bin/sh\necho new > a.txt\n")
	if err := os.Chmod(filepath.Join(b.workspace, "bin/fix-it"), 0o755); err != nil {
		t.Fatal(err)
	}
	if run := b.run(plainTask); run.Outcome != Changed {
		t.Errorf("%v, %q", run.Outcome, run.Explanation)
	}
}

// What the generators of the tests are given and write conforms to what is
// published.
func TestSchemas(t *testing.T) {
	for name, examples := range map[string][]string{
		"generator-task.schema.json":   {plainTask},
		"generator-result.schema.json": {`{"contract":"sop.generator/v1","outcome":"changed","explanation":"It is new.","cost":{"money":0.5,"model_tokens":12}}`},
		"generator-event.schema.json":  {`{"phase":"editing","message":"a.txt"}`, `{"cost":{"money":3}}`},
	} {
		text, err := os.ReadFile(filepath.Join("../../../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource(name, doc); err != nil {
			t.Fatal(err)
		}
		schema := compiler.MustCompile(name)
		for _, example := range examples {
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(example))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
