package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	dir := write(t, map[string]string{
		"b.cedar": `permit (principal, action, resource);`, "a.cedar": "\n@id(\"first\") forbid (principal, action == Action::\"host.stop\", resource);",
		".hidden.cedar": "nonsense", "notes.txt": "nonsense",
	})
	set, diags := Load(dir)
	if set == nil || len(diags) > 0 || len(set.Policies()) != 2 || set.Source() != dir {
		t.Fatalf("%+v %v", set, diags)
	}
	first := set.Policies()[0]
	if first.ID != "first" || first.Effect != "forbid" || first.Line != 2 || !strings.HasPrefix(first.Text, "@id") || !strings.HasSuffix(first.Text, ";") {
		t.Errorf("first: %+v", first)
	}
	if second := set.Policies()[1]; second.ID != "b.cedar:1" || second.String() != second.ID {
		t.Errorf("second: %+v", second)
	}
	again, _ := Load(dir)
	if err := os.WriteFile(filepath.Join(dir, "b.cedar"), []byte(`permit (principal, action, resource) ;`), 0o600); err != nil {
		t.Fatal(err)
	}
	other, _ := Load(dir)
	if again.Digest() != set.Digest() || other.Digest() == set.Digest() {
		t.Error("the digest does not tell texts apart")
	}
}

// A directory that is no good is refused, and so is one that is not there.
func TestLoadWhatIsNoGood(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	many := make(map[string]string)
	for i := range maxFiles + 1 {
		many[fmt.Sprintf("%03d.cedar", i)] = "permit (principal, action, resource);"
	}
	outside := write(t, nil)
	if err := os.Symlink("/etc/passwd", filepath.Join(outside, "x.cedar")); err != nil {
		t.Fatal(err)
	}
	pipe := write(t, nil)
	if err := syscall.Mkfifo(filepath.Join(pipe, "x.cedar"), 0o600); err != nil {
		t.Fatal(err)
	}
	directory := write(t, nil)
	if err := os.Mkdir(filepath.Join(directory, "x.cedar"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ dir, says string }{
		"gone":        {filepath.Join(t.TempDir(), "gone"), "does not exist"},
		"a file":      {file, "Cannot read"},
		"empty":       {write(t, nil), "nobody may do anything"},
		"comments":    {write(t, map[string]string{"a.cedar": "// nothing\n"}), "nobody may do anything"},
		"many files":  {write(t, many), "at most 256"},
		"large":       {write(t, map[string]string{"a.cedar": strings.Repeat("/", maxFileSize+1)}), "larger than"},
		"outside":     {outside, "x.cedar: Cannot read"},
		"pipe":        {pipe, "not a regular file"},
		"directory":   {directory, "not a regular file"},
		"binary":      {write(t, map[string]string{"a.cedar": "\xff\xfe"}), "UTF-8"},
		"NUL":         {write(t, map[string]string{"a.cedar": "\x00"}), "UTF-8"},
		"one of them": {write(t, map[string]string{"a.cedar": "permit (principal, action, resource);", "b.cedar": "permit"}), "b.cedar:1"},
	}
	for name, tt := range tests {
		if set, diags := Load(tt.dir); set != nil || !strings.Contains(diags.Error(), tt.says) {
			t.Errorf("%s: %v", name, diags)
		}
	}
	if os.Geteuid() != 0 {
		closed := write(t, map[string]string{"a.cedar": "permit (principal, action, resource);"})
		if err := os.Chmod(filepath.Join(closed, "a.cedar"), 0); err != nil {
			t.Fatal(err)
		}
		if set, diags := Load(closed); set != nil || !strings.Contains(diags.Error(), "ermission denied") {
			t.Errorf("unreadable: %v", diags)
		}
	}
}

// The number of problems that are reported is bounded.
func TestDiagnosticsAreBounded(t *testing.T) {
	_, diags := Parse("x", []File{{Name: "x", Text: []byte(strings.Repeat("permit (principal, action, resource) when { principal.trst == 1 };\n", 3000))}})
	if len(diags) > mostDiagnostics+1 || !strings.Contains(diags.Error(), "more problems") {
		t.Errorf("%d diagnostics", len(diags))
	}
}

// Decisions are made while the set is replaced.
func TestLiveIsReplacedWhileInUse(t *testing.T) {
	allow := mustParse(t, `permit (principal, action, resource);`)
	deny := mustParse(t, `forbid (principal, action, resource);`)
	var live Live
	if live.Set() != Default() {
		t.Error("the zero value does not hold the default policies")
	}
	live.Replace(allow)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			req := Request{Principal: exterior, Action: "gap.read", Resource: TheHost()}
			for ctx.Err() == nil {
				if d := live.Decide(&req); len(d.Policies) != 1 || d.Allow != (d.Policies[0].Effect == "permit") {
					t.Errorf("got %+v", d)
					return
				}
			}
		})
	}
	for i := range 1000 {
		live.Replace([]*Set{allow, deny}[i%2])
	}
	stop()
	wg.Wait()
}

// FuzzParse: whatever a file holds, loading it neither panics nor hangs, what is
// accepted can be asked, and what is refused has its place within the file.
func FuzzParse(f *testing.F) {
	for _, file := range DefaultFiles() {
		f.Add(file.Text)
	}
	invalid, err := filepath.Glob("testdata/invalid/*.cedar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range invalid {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("permit(principal,action,resource)when{if true then{a:1}.a==1 else[1,\"\\u{41}\"].contains(-1)}unless{!(principal in[Group::\"a\"])};"))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, diags := Parse("f", []File{{Name: "f", Text: text}})
		if (set == nil) != (len(diags) > 0) {
			t.Fatalf("%v, %v", set, diags)
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, d := range diags {
			if d.Line > lines || d.Line > 0 && d.Column < 1 {
				t.Errorf("nowhere: %+v", d)
			}
		}
		if set == nil {
			return
		}
		for _, action := range []string{"gap.read", "protocol.call", "patch.approve"} {
			for _, on := range []Resource{TheHost(), aPatch("a", true, false), {Ref: Ref{"Protocol", "uip"}}} {
				d := set.Decide(&Request{Principal: exterior, Action: action, Resource: on, Context: map[string]any{}})
				if d.Allow && len(d.Policies) == 0 {
					t.Errorf("allowed by nothing: %+v", d)
				}
			}
		}
	})
}

// FuzzCases: the same for test cases.
func FuzzCases(f *testing.F) {
	f.Add([]byte(goodCases))
	f.Add([]byte("case \"x\" {\n principal = { name = 1 }\n expect = \"maybe\"\n}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cases, diags := ParseCases("f", text)
		if (cases == nil) != (len(diags) > 0) {
			t.Fatalf("%v, %v", cases, diags)
		}
		for i := range cases {
			cases[i].Test(Default())
		}
	})
}

// The most that is read is checked in reasonable time, whatever it says.
func TestCheckingIsBounded(t *testing.T) {
	texts := map[string]string{
		"valid":  "permit (principal, action, resource) when { principal.name == \"a\"" + strings.Repeat(" && principal.name == \"a\"", 150) + " };\n",
		"wrong":  "permit (principal, action, resource) when { principal.name == 1" + strings.Repeat(" && principal.name == 1", 150) + " };\n",
		"or":     "permit (principal, action, resource) when { principal.nam == 1" + strings.Repeat(" || principal.nam == 1", 150) + " };\n",
		"if":     "permit (principal, action, resource) when { " + strings.Repeat("if principal.name == \"a\" then true else ", 90) + "false };\n",
		"nested": "permit (principal, action, resource) when { " + strings.Repeat("(if true then ", 60) + "principal.x" + strings.Repeat(" else principal.x)", 60) + " };\n",
		"not":    "permit (principal, action, resource) when { " + strings.Repeat("!", 950) + "true };\n",
		"dots":   "permit (principal, action, resource) when { principal" + strings.Repeat(".a", 450) + " };\n",
	}
	for name, text := range texts {
		begin := time.Now()
		var files []File
		size := 8 << 10
		if os.Getenv("SOP_TEST_LONG") != "" {
			size = maxFileSize
		}
		for i := range maxTotal / maxFileSize {
			files = append(files, File{Name: fmt.Sprint(i), Text: []byte(strings.Repeat(text, size/len(text)))})
		}
		_, diags := Parse("x", files)
		t.Logf("%-7s %d diagnostics in %v", name, len(diags), time.Since(begin))
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("%s took %v", name, took)
		}
	}
}
