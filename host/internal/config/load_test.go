package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInvalid loads everything in testdata/invalid and compares what is said
// about it.
func TestInvalid(t *testing.T) {
	entries, err := os.ReadDir("testdata/invalid")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() && filepath.Ext(entry.Name()) != ".hcl" {
			continue
		}
		t.Run(entry.Name(), func(t *testing.T) {
			config, diags := Load(filepath.Join("testdata/invalid", entry.Name()), testOptions)
			if config != nil || !diags.HasErrors() {
				t.Fatalf("got a config; diagnostics: %v", diags)
			}
			var out bytes.Buffer
			if err := diags.WriteText(&out, false, 100); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if strings.HasSuffix(line, " \n") && !strings.Contains(line, "|") {
					t.Errorf("trailing space in %q", line)
				}
			}
			name := strings.TrimSuffix(entry.Name(), ".hcl")
			golden(t, filepath.Join("testdata/invalid", name+".txt"), out.Bytes())
		})
	}
}

// TestValid compares what is loaded from testdata/valid, as JSON, with the
// test's directory replaced.
func TestValid(t *testing.T) {
	for _, name := range []string{"full", "minimal", "protocol", "sandbox", "telemetry", "component", "task", "verify"} {
		t.Run(name, func(t *testing.T) {
			config, diags := Load(filepath.Join("testdata/valid", name+".hcl"), testOptions)
			if len(diags) > 0 {
				t.Fatal(diags)
			}
			encoded, err := json.MarshalIndent(config, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			encoded = bytes.ReplaceAll(encoded, []byte(config.Dir), []byte("DIR"))
			golden(t, filepath.Join("testdata/valid", name+".json"), append(encoded, '\n'))
		})
	}
}

func TestLookup(t *testing.T) {
	config, diags := Load("testdata/valid/full.hcl", testOptions)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	if p := config.Plugin("detector.docs"); p == nil || p.ID() != "detector.docs" {
		t.Errorf("Plugin = %v", p)
	}
	if p := config.Plugin("detector.none"); p != nil {
		t.Errorf("Plugin = %v", p)
	}
	if w := config.Workspace("main"); w == nil || w.Path != "/from/env" {
		t.Errorf("Workspace = %v", w)
	}
	if w := config.Workspace("none"); w != nil {
		t.Errorf("Workspace = %v", w)
	}
}

func TestDirectoryIsMerged(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "10-a.hcl", "workspace \"a\" {\n  path = local.root\n}\n")
	write(t, dir, "20-b.hcl", "locals {\n  root = \"r\"\n}\n")
	write(t, dir, ".hidden.hcl", "(((")
	write(t, dir, "notes.txt", "(((")
	write(t, dir, LockFileName, "(((")
	config, diags := Load(dir, testOptions)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if got, want := config.Workspaces[0].Path, filepath.Join(dir, "r"); got != want {
		t.Errorf("path %q, want %q", got, want)
	}
	if len(config.Files) != 2 || config.Dir != dir || config.Path != dir {
		t.Errorf("%+v", config)
	}
	// A single file is read alone.
	if _, diags := Load(filepath.Join(dir, "10-a.hcl"), testOptions); !strings.Contains(diags.Error(), "There is no local.root") {
		t.Errorf("got %v", diags)
	}
}

// TestUnreadable points Load at things that are not configuration. None may
// block.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	fifo := filepath.Join(dir, "fifo.hcl")
	loop := filepath.Join(dir, "loop.hcl")
	inDir := filepath.Join(dir, "in")
	for _, err := range []error{
		os.Mkdir(empty, 0o755), os.Mkdir(inDir, 0o755), syscall.Mkfifo(fifo, 0o600), os.Symlink(loop, loop),
		syscall.Mkfifo(filepath.Join(inDir, "a.hcl"), 0o600),
		os.Symlink("nowhere", filepath.Join(inDir, "b.hcl")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, inDir, "c.hcl", "host {\n  log = 1\n}\n")
	huge := write(t, dir, "huge.hcl", strings.Repeat("# too long a comment\n", 4<<20/20))
	secret := write(t, dir, "secret.hcl", "host {}\n")
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		want []string
	}{
		"no path":         {"", []string{"No path was given."}},
		"missing":         {filepath.Join(dir, "none.hcl"), []string{"No such file or directory."}},
		"below a file":    {filepath.Join(huge, "x.hcl"), []string{"Not a directory."}},
		"empty directory": {empty, []string{"The directory holds no *.hcl files."}},
		"named pipe":      {fifo, []string{"It is a named pipe, not a regular file."}},
		"device":          {"/dev/zero", []string{"It is a device, not a regular file."}},
		"link loop":       {loop, []string{"Too many levels of symbolic links."}},
		"huge":            {huge, []string{"It is larger than 4MiB."}},
		"in a directory": {inDir, []string{
			"It is a named pipe, not a regular file.", "No such file or directory.", `A host block has no attribute named "log".`,
		}},
	}
	if os.Geteuid() != 0 {
		tests["unreadable"] = struct {
			path string
			want []string
		}{secret, []string{"Permission denied."}}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config, diags := Load(test.path, testOptions)
			if config != nil || len(diags) != len(test.want) {
				t.Fatalf("got %v", []Diagnostic(diags))
			}
			for i, want := range test.want {
				if !strings.Contains(diags[i].Detail, want) {
					t.Errorf("got %v, want %q", diags[i], want)
				}
			}
		})
	}
}

func TestOptionsHaveDefaults(t *testing.T) {
	t.Setenv("SOP_CONFIG_TEST", "value")
	file := write(t, t.TempDir(), "c.hcl", "workspace \"w\" {\n  path = env(\"SOP_CONFIG_TEST\")\n}\n")
	config, diags := Load(file, Options{})
	if diags.HasErrors() || filepath.Base(config.Workspaces[0].Path) != "value" {
		t.Errorf("got %+v %v", config, diags)
	}
	file = write(t, t.TempDir(), "c.hcl", "locals {\n  p = path.plugins\n}\n")
	if _, diags := Load(file, Options{}); !diags.HasErrors() {
		t.Error("path.plugins is known without a directory")
	}
}

func TestFileFunction(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "text", "from a file\n")
	write(t, dir, "large", strings.Repeat("x", maxIncludedFile+1))
	write(t, dir, "binary", "\xff")
	load := func(expr string) (*Config, Diagnostics) {
		file := write(t, dir, "c.hcl", "workspace \"w\" {\n  path = "+expr+"\n}\n")
		return Load(file, testOptions)
	}
	config, diags := load(`trimspace(file("text"))`)
	if diags.HasErrors() || config.Workspaces[0].Path != filepath.Join(dir, "from a file") {
		t.Errorf("got %v %v", config, diags)
	}
	if _, diags := load(`file("large")`); !strings.Contains(diags.Error(), "larger than 1MiB") {
		t.Errorf("got %v", diags)
	}
	if _, diags := load(`file("binary")`); !strings.Contains(diags.Error(), "not valid UTF-8") {
		t.Errorf("got %v", diags)
	}
}

// TestFunctionResults evaluates each function once.
func TestFunctionResults(t *testing.T) {
	tests := map[string]string{
		`upper("a")`: "A", `lower("A")`: "a", `join("-", ["a", "b"])`: "a-b", `split(",", "a,b")[1]`: "b",
		`concat(["a"], ["b"])[1]`: "b", `merge({ a = "x" }, { a = "y" }).a`: "y", `format("%03d", 7)`: "007",
		`format("%s-%s", "a", 1)`: "a-1",
		`jsonencode({ a = 1 })`:   `{"a":1}`, `jsondecode("{\"a\":\"b\"}").a`: "b", `coalesce(null, "z")`: "z",
		`contains(["a"], "a")`: "true", `length("äb")`: "2", `length([1])`: "1", `length({ a = 1 })`: "1",
		`replace("aXb", "X", "-")`: "a-b", `trimspace(" a ")`: "a", `min(2, 1)`: "1", `max(2, 1)`: "2",
		`sort(["b", "a"])[0]`: "a", `keys({ k = 1 })[0]`: "k", `values({ k = 1 })[0]`: "1", `lookup({ a = "b" }, "c", "d")`: "d",
		`flatten([["a"], ["b"]])[1]`: "b", `distinct(["a", "a"])[0]`: "a", `chomp("a\n")`: "a",
		`trimprefix("ab", "a")`: "b", `trimsuffix("ab", "b")`: "a", `env("NONE", "d")`: "d", `env("SOP_TEST_SET")`: "/from/env",
		`true ? "a" : "b"`: "a", `[for x in ["a"] : upper(x)][0]`: "A", `{ for k, v in { a = "b" } : v => k }.b`: "a",
	}
	for expr, want := range tests {
		file := write(t, t.TempDir(), "c.hcl", "plugin \"detector\" \"p\" {\n  command = \"x\"\n  args = [\""+"${"+expr+"}"+"\"]\n}\n")
		config, diags := Load(file, testOptions)
		if diags.HasErrors() {
			t.Errorf("%s: %v", expr, diags)
			continue
		}
		if got := config.Plugins[0].Args[0]; got != want {
			t.Errorf("%s = %q, want %q", expr, got, want)
		}
	}
}

// TestHostileSource loads sources that would exhaust the stack or the memory.
func TestHostileSource(t *testing.T) {
	growing := "locals {\n  v0 = [\"x\", \"x\"]\n"
	for i := 1; i < 60; i++ {
		growing += "  v" + strconv.Itoa(i) + " = [local.v" + strconv.Itoa(i-1) + ", local.v" + strconv.Itoa(i-1) + "]\n"
	}
	growing += "}\n"
	tests := map[string]string{
		"brackets":  "a = " + strings.Repeat("[", 1<<17),
		"parens":    "a = " + strings.Repeat("(", 1<<17),
		"bangs":     "a = " + strings.Repeat("!", 1<<17) + "true",
		"minus":     "a = " + strings.Repeat("-", 1<<17) + "1",
		"sum":       "a = 1" + strings.Repeat("+1", 1<<17),
		"condition": "a = " + strings.Repeat("true?1:", 1<<17) + "2",
		"index":     "a = b" + strings.Repeat("[c()]", 1<<16),
		"splat":     "a = b" + strings.Repeat("[*]", 1<<16),
		"template":  "a = \"" + strings.Repeat("%{if true}", 1<<17) + "\"",
		"interp":    "a = " + strings.Repeat("\"${", 1<<16),
		"blocks":    strings.Repeat("a {\n", 1<<16),
		"growing":   growing,
		"quotes":    strings.Repeat("\"", 1<<17),
		"chain":     chain(5_000),
	}
	for name, source := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			file := write(t, t.TempDir(), "c.hcl", source)
			_, diags := Load(file, testOptions)
			if name != "chain" && !diags.HasErrors() {
				t.Error("no error")
			}
			t.Log(time.Since(start).Round(time.Millisecond), diags.Error()[:min(150, len(diags.Error()))])
		})
	}
}

func chain(n int) string {
	var b strings.Builder
	b.WriteString("locals {\n  v0 = 1\n")
	for i := 1; i < n; i++ {
		b.WriteString("  v" + strconv.Itoa(i) + " = local.v" + strconv.Itoa(i-1) + "\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
