package sandbox

import (
	"context"
	"os"
	"testing"
)

// A run whose caller has gone away copies no workspace to its end, and leaves
// nothing.
func TestCanceledCopy(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	profile := DefaultProfile
	profile.Level = LevelNone
	out, err := runner().Run(ctx, Spec{Profile: profile, Workspace: workspace(t), Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if out.Status != Canceled || out.Refusal != nil {
		t.Errorf("%v, %v", out.Status, out.Refusal)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
