package verify

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// DefaultSteps are those of a workspace for which none are configured: a Go
// module is built, tested, where it has tests, and vetted; of others nothing is known.
func DefaultSteps(workspace string) ([]Step, error) {
	_, err := os.Stat(filepath.Join(workspace, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return []Step{
		{Name: "build", Command: []string{"go", "build", "./..."}, Env: goSettings, Timeout: defaultTimeout},
		{Name: "test", Runner: RunnerGoTest, Timeout: defaultTimeout, MayBeEmpty: true},
		{Name: "lint", Command: []string{"go", "vet", "./..."}, Env: goSettings, Timeout: defaultTimeout},
	}, err
}

const defaultTimeout = 10 * time.Minute

// goSettings keep the go command to the toolchain and the modules that are
// there, and to what stands in the workspace.
var goSettings = []string{
	"GOENV=off", "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0", "GOTELEMETRY=off",
}
