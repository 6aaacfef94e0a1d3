package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testSchema has one of everything.
var testSchema = &Schema{
	Attributes: []Attribute{
		{Name: "limit", Type: `"number"`, Default: json.RawMessage(`10`)},
		{Name: "patterns", Type: `["list","string"]`, Required: true, Description: "What to look for."},
		{Name: "labels", Type: `["map","string"]`},
		{Name: "token", Type: `"string"`, Sensitive: true},
		{Name: "target", Type: `["object",{"host":"string","port":"number"},["port"]]`},
		{Name: "pair", Type: `["tuple",["string","number"]]`},
		{Name: "any", Type: `"dynamic"`},
		{Name: "flag", Type: `"bool"`},
		{Name: "set", Type: `["set","string"]`},
	},
	Blocks: []Block{
		{Name: "auth", Nesting: NestingSingle, Schema: &Schema{
			Attributes: []Attribute{{Name: "password", Type: `"string"`, Sensitive: true, Required: true}},
		}},
		{Name: "rule", Nesting: NestingMap, Schema: &Schema{
			Attributes: []Attribute{{Name: "severity", Type: `"string"`, Default: json.RawMessage(`"low"`)}},
		}},
		{Name: "step", Nesting: NestingList, MaxItems: 2, Schema: &Schema{
			Attributes: []Attribute{{Name: "run", Type: `"string"`}},
			Blocks:     []Block{{Name: "empty", Nesting: NestingSingle}},
		}},
	},
}

// loadPlugin loads a configuration with one plugin, whose config block has the
// given body. The file is read by a fixed name.
func loadPlugin(t *testing.T, body string) *Plugin {
	t.Helper()
	t.Chdir(t.TempDir())
	write(t, ".", "config.hcl", "plugin \"detector\" \"p\" {\n  command = \"x\"\n"+body+"}\n")
	config, diags := Load("config.hcl", testOptions)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return &config.Plugins[0]
}

func TestDecodeConfig(t *testing.T) {
	tests := map[string]struct {
		schema *Schema
		body   string
		want   string
	}{
		"nothing":            {nil, "", `{}`},
		"empty":              {&Schema{}, "  config {}\n", `{}`},
		"default, no block":  {&Schema{Attributes: testSchema.Attributes[:1]}, "", `{"limit":10}`},
		"null is unset":      {&Schema{Attributes: testSchema.Attributes[:1]}, "  config {\n    limit = null\n  }\n", `{"limit":10}`},
		"null without value": {&Schema{Attributes: testSchema.Attributes[2:]}, "  config {\n    labels = null\n  }\n", `{}`},
		"everything": {testSchema, `
  config {
    limit    = "5"
    patterns = ["a", 1]
    labels   = { a = "b" }
    token    = "t"
    target   = { host = "h" }
    pair     = ["a", 1.5]
    any      = [1, { a = true }]
    flag     = "true"
    set      = ["b", "a", "b"]
    auth {
      password = "p"
    }
    rule "one" {}
    rule "two" {
      severity = "high"
    }
    step {
      run = "1"
      empty {}
    }
    step {}
  }
`, `{"any":[1,{"a":true}],"auth":{"password":"p"},"flag":true,"labels":{"a":"b"},"limit":5,"pair":["a",1.5],` +
			`"patterns":["a","1"],"rule":{"one":{"severity":"low"},"two":{"severity":"high"}},"set":["a","b"],` +
			`"step":[{"empty":{},"run":"1"},{}],"target":{"host":"h","port":null},"token":"t"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, diags := loadPlugin(t, test.body).DecodeConfig(test.schema)
			if err := diags.Err(); err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestDecodeConfigErrors(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	plugin := loadPlugin(t, `
  config {
    limitt = 1
    limit  = "many"
    labels = {
      a = "b"
      c = ["secret-1"]
    }
    token = {
      s = "secret-2"
    }
    target = { hots = "x", port = [] }
    pair   = ["a"]
    set    = [1, {}, "a", []]
    auth {
      pasword = "secret-3"
    }
    auth {}
    rule {}
    rule "a" {}
    rule "a" "b" {}
    rule "a" {
      severty = 1
    }
    step "x" {}
    step {}
    step {
      empty {
        a = 1
      }
    }
    stp {}
    flag {}
    step = 1
  }
`)
	encoded, diags := plugin.DecodeConfig(testSchema)
	if encoded != nil || !diags.HasErrors() {
		t.Fatalf("got %s", encoded)
	}
	var out bytes.Buffer
	if err := diags.WriteText(&out, false, 100); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(here, "testdata/decode.txt"), out.Bytes())

	_, diags = loadPlugin(t, "").DecodeConfig(testSchema)
	if len(diags) != 1 || diags[0].Line != 1 || !strings.Contains(diags[0].Detail, "There is no config block") {
		t.Errorf("got %v", []Diagnostic(diags))
	}
	two := &Schema{Blocks: []Block{{Name: "b", Nesting: NestingList, MinItems: 2}}}
	_, diags = loadPlugin(t, "  config {\n    b {}\n  }\n").DecodeConfig(two)
	if len(diags) != 1 || diags[0].Line != 3 || !strings.Contains(diags[0].Detail, "at least 2 b blocks") {
		t.Errorf("got %v", []Diagnostic(diags))
	}
}

func TestSensitiveSourceIsHidden(t *testing.T) {
	plugin := loadPlugin(t, "  config {\n    token = [\"hunter2\"]\n    auth {\n      password = [\"hunter3\"]\n    }\n    patterns = []\n  }\n")
	_, diags := plugin.DecodeConfig(testSchema)
	encoded, err := json.Marshal(diags)
	if err != nil {
		t.Fatal(err)
	}
	if len(diags) != 2 || bytes.Contains(encoded, []byte("hunter")) {
		t.Errorf("got %s", encoded)
	}
	_, diags = loadPlugin(t, "  config {\n    tokn = \"hunter2\"\n  }\n").DecodeConfig(testSchema)
	if encoded, err = json.Marshal(diags); err != nil || len(diags) != 2 || bytes.Contains(encoded, []byte("hunter")) {
		t.Errorf("got %s %v", encoded, err)
	}
	for _, path := range [][]PathStep{{{Name: "token"}, {Index: 0}}, {{Name: "auth"}, {Name: "password"}}, {{Name: "auth"}, {Index: 0}, {Name: "password"}}} {
		if d := plugin.Diagnostic(testSchema, SeverityError, "Too short", "", path); d.Snippet != "" || d.Line == 0 {
			t.Errorf("%v: got %+v", path, d)
		}
	}
	d := plugin.Diagnostic(testSchema, SeverityWarning, "None", "Nothing to do.", []PathStep{{Name: "patterns"}})
	if d.Snippet != "    patterns = []" || d.Severity != SeverityWarning {
		t.Errorf("got %+v", d)
	}
}

func TestAttributeRange(t *testing.T) {
	plugin := loadPlugin(t, `
  config {
    list   = ["a", { b = "c" }]
    object = { a = [1, 2], "b c" = (3) }
    call   = upper("x")
    rule "one" {
      a = 1
    }
    rule "two" {
      a = 2
    }
    step {
      a = 1
    }
    step {
      a = 2
    }
  }
`)
	name := func(n string) PathStep { return PathStep{Name: n} }
	index := func(i int) PathStep { return PathStep{Index: i} }
	tests := []struct {
		path []PathStep
		want string
	}{
		{nil, "4:3"},
		{[]PathStep{name("none")}, "4:3"},
		{[]PathStep{index(3)}, "4:3"},
		{[]PathStep{name("list")}, "5:14"},
		{[]PathStep{name("list"), index(0)}, "5:15"},
		{[]PathStep{name("list"), index(1), name("b")}, "5:26"},
		{[]PathStep{name("list"), index(7), name("b")}, "5:14"},
		{[]PathStep{name("list"), index(-1)}, "5:14"},
		{[]PathStep{name("object"), name("a"), index(1)}, "6:24"},
		{[]PathStep{name("object"), name("b c")}, "6:36"},
		{[]PathStep{name("object"), name("d")}, "6:14"},
		{[]PathStep{name("call"), index(0)}, "7:14"},
		{[]PathStep{name("rule")}, "8:5"},
		{[]PathStep{name("rule"), name("two")}, "11:5"},
		{[]PathStep{name("rule"), name("two"), name("a")}, "12:11"},
		{[]PathStep{name("step"), index(1), name("a")}, "18:11"},
		{[]PathStep{name("step"), index(9), name("a")}, "14:5"},
		{[]PathStep{name("step"), name("a")}, "15:11"},
	}
	for _, test := range tests {
		if got := plugin.AttributeRange(test.path).String(); got != "config.hcl:"+test.want {
			t.Errorf("%v: got %s, want %s", test.path, got, test.want)
		}
	}
	if got := loadPlugin(t, "").AttributeRange([]PathStep{name("a")}).String(); got != "config.hcl:1:1" {
		t.Errorf("without a block: %s", got)
	}
	if got := (&Plugin{}).AttributeRange(nil); got != (Range{}) {
		t.Errorf("of the zero plugin: %v", got)
	}
}

func TestSchemaValidate(t *testing.T) {
	attribute := func(ty string) *Schema { return &Schema{Attributes: []Attribute{{Name: "a", Type: ty}}} }
	withDefault := func(ty, value string) *Schema {
		return &Schema{Attributes: []Attribute{{Name: "a", Type: ty, Default: json.RawMessage(value)}}}
	}
	block := func(b Block) *Schema { return &Schema{Blocks: []Block{b}} }
	many := &Schema{}
	for range 10_000 {
		many.Attributes = append(many.Attributes, Attribute{Name: "a" + strings.Repeat("x", len(many.Attributes)%50) + string(rune('a'+len(many.Attributes)/50%26)) + string(rune('a'+len(many.Attributes)/1300)), Type: `"string"`})
	}
	recursive := &Schema{}
	recursive.Blocks = []Block{{Name: "a", Nesting: NestingList, Schema: recursive}, {Name: "b", Nesting: NestingMap, Schema: recursive}}
	tests := map[string]struct {
		schema *Schema
		want   string // "" for a valid one
	}{
		"nil":                   {nil, ""},
		"zero":                  {&Schema{}, ""},
		"everything":            {testSchema, ""},
		"unknown type":          {attribute(`"strnig"`), `there is no type "strnig". Did you mean "string"?`},
		"unknown collection":    {attribute(`["lits","string"]`), `there is no type "lits"`},
		"no type":               {attribute(``), `"" is not a type`},
		"not JSON":              {attribute(`string`), `"string" is not a type`},
		"null type":             {attribute(`null`), `is no`},
		"short array":           {attribute(`["list"]`), "is not a type"},
		"long array":            {attribute(`["list","string","string"]`), "is not a type"},
		"object of list":        {attribute(`["object",[]]`), "is not an object type"},
		"object, bad optional":  {attribute(`["object",{"a":"string"},["b"]]`), `optional attribute "b" does not exist`},
		"object, odd optional":  {attribute(`["object",{"a":"string"},3]`), "not a list of names"},
		"object, no name":       {attribute(`["object",{"":"string"}]`), "without a name"},
		"tuple of nothing":      {attribute(`["tuple",[]]`), ""},
		"tuple of string":       {attribute(`["tuple","string"]`), "not a list of types"},
		"number":                {attribute(`3`), "is not a type"},
		"deep type":             {attribute(strings.Repeat(`["list",`, 20) + `"string"` + strings.Repeat(`]`, 20)), "nested more than 16 deep"},
		"very deep type":        {attribute(strings.Repeat(`[`, 16000)), "is not a type"},
		"long type":             {attribute(strings.Repeat(`x`, 1<<15)), "longer than 16KiB"},
		"bad name":              {&Schema{Attributes: []Attribute{{Name: "a b", Type: `"string"`}}}, `"a b" is not a valid name`},
		"long name":             {&Schema{Attributes: []Attribute{{Name: strings.Repeat("a", 1<<20), Type: `"string"`}}}, "is not a valid name"},
		"duplicate":             {&Schema{Attributes: []Attribute{{Name: "a", Type: `"string"`}}, Blocks: []Block{{Name: "a", Nesting: NestingList}}}, `"a" occurs twice`},
		"many":                  {many, "more than 1000"},
		"recursive":             {recursive, "nested more than 16 deep"},
		"nesting":               {block(Block{Name: "b"}), `"" is not a nesting`},
		"range":                 {block(Block{Name: "b", Nesting: NestingList, MinItems: 3, MaxItems: 2}), "not a range"},
		"negative":              {block(Block{Name: "b", Nesting: NestingList, MinItems: -1}), "not a range"},
		"single":                {block(Block{Name: "b", Nesting: NestingSingle, MinItems: 2}), "more than once"},
		"default":               {withDefault(`["list","string"]`, `["a", 1]`), ""},
		"default null":          {withDefault(`"string"`, `null`), ""},
		"default of wrong type": {withDefault(`"number"`, `"x"`), "does not fit"},
		"default not JSON":      {withDefault(`"number"`, `{`), "not valid JSON"},
		"default twice":         {withDefault(`"number"`, `1 2`), "not valid JSON"},
		"default huge number":   {withDefault(`"string"`, `1e999999999`), "too large a number"},
		"default deep":          {withDefault(`"dynamic"`, strings.Repeat("[", 5000)+strings.Repeat("]", 5000)), "too deep"},
		"default long":          {withDefault(`"string"`, `"`+strings.Repeat("x", 1<<17)+`"`), "longer than 64KiB"},
		"required default":      {&Schema{Attributes: []Attribute{{Name: "a", Type: `"string"`, Required: true, Default: json.RawMessage(`"x"`)}}}, "required and has a default"},
		"description":           {&Schema{Attributes: []Attribute{{Name: "a", Type: `"string"`, Description: "\xff"}}}, "not UTF-8"},
		"nested":                {block(Block{Name: "b", Nesting: NestingList, Schema: attribute(`"x"`)}), `block "b": attribute "a": there is no type "x"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.schema.Validate()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			case err != nil && len(err.Error()) > 1000:
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			if test.want == "" {
				return
			}
			encoded, diags := loadPlugin(t, "").DecodeConfig(test.schema)
			if encoded != nil || len(diags) != 1 || diags[0].Summary != "Invalid plugin schema" || diags[0].Line != 1 {
				t.Errorf("got %s %v", encoded, diags)
			}
		})
	}
}

func FuzzSchema(f *testing.F) {
	encoded, err := json.Marshal(testSchema)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(encoded))
	f.Add(`{"attributes":[{"name":"a","type":"[\"object\",{\"a\":\"string\"},[\"b\"]]"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var schema Schema
		if json.Unmarshal([]byte(text), &schema) != nil {
			return
		}
		plugin := Plugin{}
		if encoded, diags := plugin.DecodeConfig(&schema); !diags.HasErrors() && !json.Valid(encoded) {
			t.Errorf("got %q", encoded)
		}
	})
}
