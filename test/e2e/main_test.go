// Package e2e_test drives the built binaries, bin/sop and bin/plugins, as a
// user would: real processes, real signals, nothing of the host imported. It is
// imported by nobody; run `make build` first.
package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parallel is how many tests run at once: most of them wait for deadlines of
// the host's and use no processor.
const parallel = "6"

// nobody is an ordinary user.
const nobody = 65534

var (
	repository string // absolute
	// shelf holds copies of the binaries, which anybody may read and a build
	// meanwhile does not touch.
	shelf string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
	}
	syscall.Umask(0o022)
	defer func() { _ = os.RemoveAll(shelf) }()
	if err := stock(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return code
}

// stock fills the shelf.
func stock() (err error) {
	if repository, err = filepath.Abs("../.."); err != nil {
		return err
	}
	if shelf, err = os.MkdirTemp("", "sop-shelf-"); err != nil {
		return err
	}
	bin := filepath.Join(repository, "bin")
	if other := os.Getenv("SOP_E2E_BIN"); other != "" { // another build's
		bin = other
	}
	programs := []string{
		"sop", "sop-host", "sop-sandbox", "plugins/detector-docs", "plugins/detector-code", "plugins/backup-files", "plugins/backup-kopia",
		"plugins/sandbox-scaffold", "plugins/sandbox-exec",
		"plugins/protocol-exec", "plugins/protocol-http", "stack/arp", "stack/scp", "stack/uip",
	}
	for _, name := range programs {
		err := copyProgram(filepath.Join(bin, name), filepath.Join(shelf, "bin", name))
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is missing: run `make build` first", filepath.Join(bin, name))
		}
		if err != nil {
			return err
		}
	}
	return os.Chmod(shelf, 0o755)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func sopProgram() string { return filepath.Join(shelf, "bin", "sop") }

// hostile builds the ill-behaved plugin, once, and returns its path.
func hostile(t *testing.T) string {
	t.Helper()
	path, err := buildHostile()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildHostile = sync.OnceValues(func() (string, error) {
	path := filepath.Join(shelf, "hostile")
	return path, build(repository, path, "./test/e2e/internal/hostile")
})

// hello builds examples/detector-hello as a stranger would, once for each
// version: a copy of its module, elsewhere, with a replace directive.
func hello(t *testing.T, version string) string {
	t.Helper()
	once, _ := helloBuilds.LoadOrStore(version, sync.OnceValues(func() (string, error) { return buildHello(version) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var helloBuilds sync.Map

func buildHello(version string) (string, error) {
	module := filepath.Join(shelf, "hello-"+version)
	if err := os.MkdirAll(module, 0o755); err != nil {
		return "", err
	}
	edits := map[string][2]string{
		"go.mod":  {"=> ../..", "=> " + repository},
		"go.sum":  {},
		"main.go": {`"1.0.0"`, `"` + version + `"`},
	}
	for name, edit := range edits {
		source, err := os.ReadFile(filepath.Join(repository, "examples/detector-hello", name))
		if err != nil {
			return "", err
		}
		text := string(source)
		if edit[0] != "" {
			if !strings.Contains(text, edit[0]) {
				return "", fmt.Errorf("examples/detector-hello/%s does not contain %s any more", name, edit[0])
			}
			text = strings.ReplaceAll(text, edit[0], edit[1])
		}
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	path := filepath.Join(module, "detector-hello")
	return path, build(module, path, ".")
}

// build runs go build in a module, without a network.
func build(module, output, target string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", output, target)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", target, err, out)
	}
	return nil
}
