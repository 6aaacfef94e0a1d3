package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each file of testdata/invalid is refused, with the problems beside it.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.cedar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			set, diags := Parse("test", []File{{Name: filepath.Base(file), Text: text}})
			if set != nil || len(diags) == 0 {
				t.Fatalf("not refused: %v", diags)
			}
			for _, d := range diags {
				if d.Line == 0 {
					t.Errorf("without a place: %v", d)
				}
			}
			golden := strings.TrimSuffix(file, ".cedar") + ".txt"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(show(diags)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(diags); got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
