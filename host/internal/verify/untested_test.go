package verify

import "testing"

// A module without tests passes the step that tests it where that is said to do, as
// the default steps do; a test that is there, or comes, has to be run.
func TestModuleWithoutTests(t *testing.T) {
	needsStrict(t)
	source := map[string]string{"go.mod": "module example.com/bare\n\ngo 1.24\n", "a.go": "package bare\n\nfunc One() int { return 1 }\n"}
	documented := map[string]string{"a.go": "package bare\n\n// One is one.\nfunc One() int { return 1 }\n"}
	for name, test := range map[string]struct {
		edits      map[string]string
		mayBeEmpty bool
		passed     bool
	}{
		"wanted":         {documented, false, false},
		"not wanted":     {documented, true, true},
		"a test comes":   {map[string]string{"a_test.go": "package bare\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tif One() != 1 {\n\t\tt.Fatal(1)\n\t}\n}\n"}, true, true},
		"one that fails": {map[string]string{"a_test.go": "package bare\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tt.Fatal(1)\n}\n"}, true, false},
		"one that skips": {map[string]string{"a_test.go": "package bare\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tt.Skip()\n}\n"}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, source)
			spec := halfSpec(t, dir, test.edits)
			spec.Steps[0].MayBeEmpty = test.mayBeEmpty
			v, err := verifier().Verify(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if v.Passed != test.passed {
				tell(t, v)
				t.Errorf("passed %v: %s", v.Passed, v.Why)
			}
		})
	}
}
