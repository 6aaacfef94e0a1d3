package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sop-host/sop/sdk/plugintest"
)

func TestScan(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{"kind.txt": "hello, reader\n", "curt.txt": "what\n", "code.go": "package x\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	result := plugintest.Scan(t, &hello{greeting: []byte("hello")}, root)
	if len(result.Findings) != 1 || result.Findings[0].GetLocation().GetPath() != "curt.txt" {
		t.Errorf("findings: %v", result.Findings)
	}
	if len(result.Covered) != 2 {
		t.Errorf("covered: %v", result.Covered)
	}
}
