package config

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testEnviron has one variable.
func testEnviron(name string) (string, bool) {
	if name == "SOP_TEST_SET" {
		return "/from/env", true
	}
	return "", false
}

var testOptions = Options{PluginsDir: "/plugins", Environ: testEnviron}

// golden compares got with a file, or rewrites it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update)", err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs (run with -update to accept)\n--- got\n%s\n--- want\n%s", file, got, want)
	}
}
