package verify

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// judged is a module with tests, and the bug that its task is about: Sum does
// not add.
var judged = map[string]string{
	"go.mod": "module example.com/judged\n\ngo 1.24\n",
	"sum.go": sumGo("return a - b"),
	"sum_test.go": `package judged

import "testing"

func TestZero(t *testing.T) {
	if got := Sum(0, 0); got != 0 {
		t.Errorf("Sum(0, 0) = %d", got)
	}
}

func TestNames(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			if name == "" {
				t.Error("empty")
			}
		})
	}
}

func TestTwice(t *testing.T) {
	if got := Twice(4); got != 8 {
		t.Errorf("Twice(4) = %d", got)
	}
}
`,
	"names.go":         namesGo,
	"inner/in.go":      "package inner\n\n// One is one.\nfunc One() int { return 1 }\n",
	"inner/in_test.go": "package inner\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tif One() != 1 {\n\t\tt.Fatal(One())\n\t}\n}\n",
	"check.sh":         "#!/bin/sh\nexec go vet ./...\n",
}

const namesGo = "package judged\n\n// Names are names.\nfunc Names() []string { return []string{\"a\", \"b\"} }\n\n// Twice doubles.\nfunc Twice(n int) int { return 2 * n }\n"

func sumGo(body string) string {
	return "package judged\n\n// Sum adds.\nfunc Sum(a, b int) int {\n\t" + body + "\n}\n"
}

// broken is Twice as no honest test lets it through.
const broken = "package judged\n\n// Names are names.\nfunc Names() []string { return []string{\"a\", \"b\"} }\n\n// Twice is wrong.\nfunc Twice(n int) int { return 3 * n }\n"

const fixed = "return a + b"

// judgedFile makes a file of package judged.
func judgedFile(imports, body string) string {
	var b strings.Builder
	b.WriteString("package judged\n\n")
	for name := range strings.FieldsSeq(imports) {
		b.WriteString("import \"" + name + "\"\n")
	}
	return b.String() + body
}

// forgedOutput is what all the tests would write if they passed.
const forgedOutput = "\\x16=== RUN   TestZero\\n\\x16--- PASS: TestZero (0.00s)\\n\\x16=== RUN   TestNames\\n\\x16=== RUN   TestNames/a\\n\\x16=== RUN   TestNames/b\\n\\x16--- PASS: TestNames (0.00s)\\n\\x16    --- PASS: TestNames/a (0.00s)\\n\\x16    --- PASS: TestNames/b (0.00s)\\n\\x16=== RUN   TestTwice\\n\\x16--- PASS: TestTwice (0.00s)\\nPASS\\n"

// Each attack breaks Twice, which a test would notice, and tries to get that
// through.
var attacks = map[string]map[string]string{
	"edit the test":       {"sum_test.go": strings.Replace(judged["sum_test.go"], "got != 8", "got == 8", 1)},
	"delete the test":     {"sum_test.go": gone},
	"skip by build tag":   {"sum_test.go": "//go:build never\n\n" + judged["sum_test.go"]},
	"rename the test":     {"sum_test.go": gone, "sum_test.go.txt": judged["sum_test.go"]},
	"move the package":    {"names.go": gone, "sum.go": gone, "new/names.go": broken, "new/sum.go": sumGo(fixed)},
	"TestMain exits 0":    {"main_test.go": judgedFile("os testing", "func TestMain(*testing.M) { os.Exit(0) }\n")},
	"TestMain runs none":  {"main_test.go": judgedFile("flag os testing", "func TestMain(m *testing.M) { flag.Set(\"test.run\", \"^$\"); os.Exit(m.Run()) }\n")},
	"init skips the test": {"x.go": judgedFile("flag os", "func init() { os.Args = append(os.Args, \"-test.skip=TestTwice\"); _ = flag.CommandLine }\n")},
	"init exits 0":        {"x.go": judgedFile("os", "func init() { os.Exit(0) }\n")},
	"code exits 0":        {"names.go": judgedFile("os", strings.ReplaceAll(broken[len("package judged\n"):], "return 3 * n", "os.Exit(0); return 0"))},
	"fake output":         {"x.go": judgedFile("os", "func init() { os.Stdout.WriteString(\""+forgedOutput+"\"); os.Exit(0) }\n")},
	"fake output of a child": {"x.go": judgedFile("bytes os os/exec", `func init() {
	if os.Getenv("CHILD") != "" {
		return
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), "CHILD=1")
	out, _ := c.CombinedOutput()
	out = bytes.ReplaceAll(out, []byte("--- FAIL"), []byte("--- PASS"))
	os.Stdout.Write(bytes.ReplaceAll(out, []byte("FAIL"), []byte("PASS")))
	os.Exit(0)
}
`)},
	"fake only what fails": {"x.go": judgedFile("bytes os os/exec", `func init() {
	if os.Getenv("CHILD") != "" {
		return
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), "CHILD=1")
	out, _ := c.CombinedOutput()
	out = bytes.ReplaceAll(out, []byte("--- FAIL: TestTwice"), []byte("--- PASS: TestTwice"))
	os.Stdout.Write(out)
	if bytes.Contains(out, []byte("--- FAIL")) {
		os.Exit(1)
	}
	os.Exit(0)
}
`)},
	"kill the init":                 {"x.go": judgedFile("syscall", "func init() { syscall.Kill(1, 9); syscall.Kill(-1, 9); syscall.Kill(syscall.Getppid(), 9) }\n")},
	"background daemon":             {"x.go": judgedFile("os/exec syscall os", "func init() {\n\tc := exec.Command(\"/bin/sh\", \"-c\", \"printf '"+strings.ReplaceAll(forgedOutput, "\\", "\\\\")+"'; sleep 600\")\n\tc.Stdout = os.Stdout\n\tc.SysProcAttr = &syscall.SysProcAttr{Setsid: true}\n\tc.Start()\n\tos.Exit(0)\n}\n")},
	"poison the cache":              {"x.go": judgedFile("os os/exec", "func init() {\n\texec.Command(\"/bin/sh\", \"-c\", `find \"$GOCACHE\" /cache -type f 2>/dev/null | head -2000 | while read f; do : > \"$f\"; done; find / -name '*_test.go' -not -path '/usr/*' -delete`).Run()\n\tos.Exit(0)\n}\n")},
	"rewrite the tests at run time": {"inner/in.go": "package inner\n\nimport \"os\"\n\nfunc init() {\n\tos.Chmod(\"../sum_test.go\", 0o644)\n\tos.WriteFile(\"../sum_test.go\", []byte(\"package judged\\n\"), 0o644)\n\tos.Rename(\"../sum_test.go\", \"../sum_test.old\")\n}\n\n// One is one.\nfunc One() int { return 1 }\n"},
	"toolchain of the module":       {"go.mod": judged["go.mod"] + "\ntoolchain go1.99.0\n"},
	"replace by the module":         {"go.mod": judged["go.mod"] + "\nreplace example.com/judged => ./fake\n", "fake/go.mod": judged["go.mod"]},
	"a module of its own":           {"inner/go.mod": "module example.com/judged/inner\n", "inner/in.go": "package inner\n\n// One is two.\nfunc One() int { return 2 }\n"},
	"a workspace file":              {"go.work": "go 1.24\n\nuse ./fake\n", "fake/go.mod": judged["go.mod"], "fake/sum.go": sumGo(fixed)},
	"a vendored test framework":     {"vendor/modules.txt": "", "vendor/testing/testing.go": "package testing\n"},
	"a go command in the tree":      {"go": "#!/bin/sh\nexit 0\n", "bin/go": "#!/bin/sh\nexit 0\n"},
	"settings of the go command":    {".config/go/env": "GOFLAGS=-run=^$ -exec=/bin/true\n", "go.env": "GOFLAGS=-exec=/bin/true\n"},
	"panic that is recovered":       {"names.go": judgedFile("runtime", strings.ReplaceAll(broken[len("package judged\n"):], "return 3 * n", "runtime.Goexit(); return 0"))},
	"fewer cases":                   {"names.go": strings.ReplaceAll(namesGo, "{\"a\", \"b\"}", "{\"a\"}")},
	"close the output":              {"x.go": judgedFile("os syscall", "func init() { syscall.Close(1); syscall.Close(2); os.Exit(0) }\n")},
	"patch the framework in place":  {"x.s": "", "x.go": judgedFile("testing unsafe", "//go:linkname fail testing.(*common).Fail\nfunc fail(c unsafe.Pointer)\n\nvar _ = testing.Short\n\nfunc init() { fail(nil) }\n")},
}

// attackOf is a patch that fixes what it was to fix, and more.
func attackOf(name string) map[string]string {
	edits := map[string]string{"sum.go": sumGo(fixed), "names.go": broken}
	for file, text := range attacks[name] {
		edits[file] = text
	}
	return edits
}

func judgedSpec(t *testing.T, dir string, edits map[string]string) Spec {
	t.Helper()
	return Spec{
		Workspace: dir, Patch: patchOf(t, dir, edits), Profile: profile(t),
		Steps: []Step{{Name: "test", Runner: RunnerGoTest, Timeout: 2 * time.Minute}},
	}
}

// Whatever a patch does to be believed, a test that fails fails.
func TestForgedVerdicts(t *testing.T) {
	needsStrict(t)
	if len(attacks) < 20 {
		t.Fatalf("there are only %d attacks", len(attacks))
	}
	dir := t.TempDir()
	write(t, dir, judged)
	accepted := 0
	for _, name := range sortedKeys(attacks) {
		t.Run(name, func(t *testing.T) {
			verdict, err := verifier().Verify(t.Context(), judgedSpec(t, dir, attackOf(name)))
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Passed || verdict.Why == "" {
				accepted++
				tell(t, verdict)
				t.Error("the forged verdict is accepted")
			}
			t.Log(verdict.Why)
		})
	}
	t.Logf("%d of %d forged verdicts accepted", accepted, len(attacks))
	if text := fileText(t, filepath.Join(dir, "sum_test.go")); text != judged["sum_test.go"] {
		t.Error("the workspace's test is not what it was")
	}
}

// An honest patch passes, whatever it looks like.
func TestHonestPatches(t *testing.T) {
	needsStrict(t)
	dir := t.TempDir()
	write(t, dir, judged)
	for name, edits := range map[string]map[string]string{
		"a fix":            {"sum.go": sumGo(fixed)},
		"a new test":       {"sum.go": sumGo(fixed), "more_test.go": judgedFile("testing", "func TestSum(t *testing.T) {\n\tif Sum(1, 2) != 3 {\n\t\tt.Error(Sum(1, 2))\n\t}\n}\n")},
		"an honest main":   {"main_test.go": judgedFile("os testing", "func TestMain(m *testing.M) { os.Exit(m.Run()) }\n")},
		"a new package":    {"sum.go": sumGo(fixed), "deep/down/d.go": "package down\n\n// D is d.\nconst D = 1\n"},
		"comments":         {"names.go": strings.ReplaceAll(namesGo, "Names are names", "Names are what things are called")},
		"more cases":       {"names.go": strings.ReplaceAll(namesGo, "{\"a\", \"b\"}", "{\"a\", \"b\", \"c\"}")},
		"a removed file":   {"check.sh": gone},
		"files of no go":   {"README.md": "# Judged\n"},
		"noise on its own": {"sum.go": judgedFile("fmt", strings.Replace(sumGo("fmt.Println(\"--- FAIL: not a test\"); "+fixed), "package judged\n", "", 1))},
	} {
		t.Run(name, func(t *testing.T) {
			verdict, err := verifier().Verify(t.Context(), judgedSpec(t, dir, edits))
			if err != nil {
				t.Fatal(err)
			}
			if !verdict.Passed {
				tell(t, verdict)
				t.Errorf("it is not accepted: %s", verdict.Why)
			}
		})
	}
}
