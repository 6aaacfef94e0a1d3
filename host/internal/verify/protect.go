package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// DefaultProtect are patterns of the files that commonly judge a change, or
// decide what judges it.
var DefaultProtect = slices.Concat(testFiles, []string{
	"go.mod", "go.sum", "go.work", "go.work.sum", "vendor/**",
	"Makefile", "makefile", "GNUmakefile", "*.mk", "Taskfile.y*ml", "justfile",
	".golangci.*", "conftest.py", "sitecustomize.py", "usercustomize.py", "pytest.ini", ".pytest.ini", "tox.ini", "noxfile.py", "setup.cfg", "pyproject.toml", "*.pth",
	"package.json", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", ".npmrc", "jest.config.*", "vitest.config.*", ".mocharc*", "karma.conf.*",
	"Cargo.toml", "Cargo.lock", "build.rs", ".cargo/**", "rust-toolchain*",
	"pom.xml", "build.gradle*", "settings.gradle*", "gradle/**",
})

// testFiles are those of the protected files that a patch may add to.
var testFiles = []string{
	"*_test.go", "test_*.py", "*_test.py", "*.test.js", "*.test.ts", "*.test.jsx", "*.test.tsx", "*.spec.js", "*.spec.ts", "*_test.rs", "**/testdata/**", "**/__tests__/**",
}

// maxProtected bounds the files that are shown read-only.
const maxProtected = 20_000

// CheckPattern refuses a pattern that can match nothing. One without a slash is
// for names in any directory, others are for whole paths; ** is any number of
// directories.
func CheckPattern(pattern string) error {
	if pattern == "" || strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/") {
		return fmt.Errorf("%q is not a pattern of files: it is relative to the workspace and names files; dir/** is all beneath dir", pattern)
	}
	for part := range strings.SplitSeq(pattern, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("%q is not a pattern: a bracket or a backslash is left open", pattern)
		}
	}
	return nil
}

// matchesAny says whether a path matches one of the patterns.
func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if !strings.Contains(pattern, "/") {
			matched, _ := path.Match(pattern, path.Base(name)) // it was checked
			return matched
		}
		return matchParts(strings.Split(pattern, "/"), strings.Split(name, "/"))
	})
}

func matchParts(pattern, name []string) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	if pattern[0] == "**" {
		for i := range len(name) + 1 {
			if matchParts(pattern[1:], name[i:]) {
				return true
			}
		}
		return false
	}
	if len(name) == 0 {
		return false
	}
	matched, _ := path.Match(pattern[0], name[0])
	return matched && matchParts(pattern[1:], name[1:])
}

// judges says whether a path is protected from the patch.
func (s *Spec) judges(name string) bool {
	return (matchesAny(DefaultProtect, name) || matchesAny(s.Protect, name)) && !matchesAny(s.MayChange, name)
}

// mayCome says whether a patch may add a protected file: a test is welcome,
// what decides how tests are run is not.
func (s *Spec) mayCome(name string) bool {
	return matchesAny(testFiles, name) && !matchesAny(s.Protect, name)
}

// protect refuses a patch that touches what judges it, and finds the files that
// are to be shown read-only.
func (w *work) protect(context.Context) (*StepVerdict, error) {
	var touched []string
	for i := range w.spec.Patch.Set.Changes {
		if c := &w.spec.Patch.Set.Changes[i]; w.spec.touchesJudge(c) {
			touched = append(touched, string(c.Op)+" "+c.Path)
		}
	}
	if len(touched) > 0 {
		more := ""
		if n := len(touched) - 3; n > 0 {
			touched, more = touched[:3], fmt.Sprintf(" and %d more", n)
		}
		return &StepVerdict{Why: "it changes what judges it, which its task does not say it may: " + strings.Join(touched, ", ") + more}, nil
	}
	var err error
	w.protected, err = w.protectedFiles()
	if errors.Is(err, errTooMany) {
		return &StepVerdict{Why: err.Error()}, nil
	}
	return &StepVerdict{Passed: err == nil}, err
}

func (s *Spec) touchesJudge(c *sandbox.Change) bool {
	if c.Op == sandbox.OpMkdir || c.OldDir {
		return false // what is in it counts
	}
	if !s.judges(c.Path) {
		return false
	}
	isNew := c.OldSHA256 == "" && (c.Op == sandbox.OpAdd || c.Op == sandbox.OpSymlink)
	return !isNew || c.Op == sandbox.OpSymlink || !s.mayCome(c.Path)
}

var errTooMany = fmt.Errorf("more than %d files are protected: name fewer with protect", maxProtected)

func (w *work) protectedFiles() (files []string, err error) {
	root, err := os.OpenRoot(w.spec.Workspace)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // only read from
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case !entry.Type().IsRegular() || !w.spec.judges(name):
			return nil
		case len(files) == maxProtected:
			return errTooMany
		}
		files = append(files, name)
		return nil
	})
	return files, err
}
