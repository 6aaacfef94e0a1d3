package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// measureCoverage measures how much of the packages that the patch touches their own
// tests execute, without the patch and with it. It is done after the tests have
// passed, in programs of their own, and changes nothing about the verdict.
func (g *goTests) measureCoverage(ctx context.Context, before *baseline) (err error) {
	c := new(Coverage)
	g.verdict.coverage = c
	switch {
	case g.step.NoCoverage:
		c.NotMeasured = "the verify step " + g.step.Name + " is not to"
		return nil
	case before.unbuilt:
		c.NotMeasured = "the tests cannot be built without the patch"
		return nil
	}
	touched, err := g.touched()
	if err != nil {
		return err
	}
	if len(touched) == 0 {
		c.NotMeasured = "the patch changes no statements of Go"
		return nil
	}
	packages, err := g.listed(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(packages, func(dir, _ string) bool { return !slices.Contains(touched, dir) })
	if len(packages) == 0 {
		c.NotMeasured = "the patch touches no package that is tested"
		return nil
	}
	was, why, err := g.coverageBefore(ctx, before, packages)
	if err != nil || why != "" {
		c.NotMeasured = why
		return err
	}
	is, why, err := g.coverageOf(ctx, g.work.spec.Patch, packages)
	if err != nil || why != "" {
		c.NotMeasured = why
		return err
	}
	for _, dir := range sortedKeys(packages) {
		c.add(PackageCoverage{Dir: dir, Before: was[dir], After: is[dir]})
	}
	return nil
}

// touched are the directories in which the patch changes Go code, comments left out.
func (g *goTests) touched() ([]string, error) {
	root, err := os.OpenRoot(g.work.spec.Workspace)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // only read from
	var dirs []string
	set := g.work.spec.Patch.Set
	for i := range set.Changes {
		c := &set.Changes[i]
		if path.Ext(c.Path) != ".go" || c.OldDir || c.Op == sandbox.OpMkdir || c.Op == sandbox.OpChmod {
			continue
		}
		same, err := g.sameCode(root, c)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", c.Path, err)
		}
		if !same {
			dirs = append(dirs, path.Dir(c.Path))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs), nil
}

// sameCode says whether a change leaves a file the same but for comments.
func (g *goTests) sameCode(root *os.Root, c *sandbox.Change) (same bool, err error) {
	if c.Op != sandbox.OpModify {
		return false, nil
	}
	was, err := root.ReadFile(c.Path)
	if err != nil {
		return false, err
	}
	content, err := g.work.spec.Patch.Content(*c)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	is, err := io.ReadAll(io.LimitReader(content, maxSource+1))
	if err != nil || len(was) > maxSource || len(is) > maxSource {
		return false, err
	}
	return bytes.Equal(codeOf(was), codeOf(is)), nil
}

// codeOf is a Go file without the comments that mean nothing to the compiler.
func codeOf(text []byte) []byte {
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile("", -1, len(text)), text, func(token.Position, string) {}, scanner.ScanComments)
	var out []byte
	for {
		_, tok, lit := s.Scan()
		if tok == token.EOF {
			return out
		}
		if tok == token.COMMENT && !isDirective(lit) {
			continue
		}
		out = fmt.Appendf(out, "%d %q\n", tok, lit)
	}
}

// isDirective says whether a comment may be more than one.
func isDirective(comment string) bool {
	return strings.HasPrefix(comment, "//go:") || strings.HasPrefix(comment, "//line ") || strings.HasPrefix(comment, "/*line ") ||
		strings.HasPrefix(comment, "//export ") || strings.Contains(comment, "+build") || strings.Contains(comment, "#cgo") ||
		strings.Contains(comment, "#include")
}

// coverageBefore is the coverage of packages without the patch, remembered for the
// tree as it is. Those that the patch adds have none.
func (g *goTests) coverageBefore(ctx context.Context, before *baseline, packages map[string]string) (map[string]Share, string, error) {
	known, missing := before.covered(packages)
	for dir := range missing {
		there, err := g.work.hasCode(dir)
		if err != nil {
			return nil, "", err
		}
		if !there {
			delete(missing, dir)
		}
	}
	if len(missing) == 0 {
		return known, "", nil
	}
	found, why, err := g.coverageOf(ctx, nil, missing)
	if err != nil || why != "" {
		return nil, why, err
	}
	before.remember(found)
	maps.Copy(known, found)
	return known, "", nil
}

// hasCode says whether there is a package in a directory of the workspace.
func (w *work) hasCode(dir string) (bool, error) {
	entries, err := fs.ReadDir(os.DirFS(w.spec.Workspace), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return e.Type().IsRegular() && path.Ext(e.Name()) == ".go" && !strings.HasSuffix(e.Name(), "_test.go")
	}), err
}

// coverageOf runs the tests of packages, given by directory and name, so that they
// say what they execute. why says what kept it from being known.
func (g *goTests) coverageOf(ctx context.Context, patch *sandbox.Patch, packages map[string]string) (found map[string]Share, why string, err error) {
	// A package without tests is counted by a file of tests that has none.
	overlay := make(map[string][]byte)
	b := &building{patch: patch, overlay: overlay, flags: []string{"-cover", "-covermode=set"}}
	empty := fmt.Sprintf("sop_%d_test.go", rand.Uint32()) //nolint:gosec // any name will do that is not there
	for _, dir := range sortedKeys(packages) {
		overlay[path.Join(dir, empty)] = []byte("package " + packages[dir] + "\n")
		from, err := filepath.Rel(filepath.Join(".", g.step.Dir), dir)
		if err != nil {
			return nil, "", err
		}
		b.packages = append(b.packages, "./"+filepath.ToSlash(from))
	}
	if err := g.build(ctx, b); err != nil {
		return nil, "", err
	}
	if b.failed != "" {
		return nil, "the tests cannot be built to measure it: " + b.failed, nil
	}
	found = make(map[string]Share)
	for _, dir := range sortedKeys(packages) {
		program, built := b.programs[dir]
		if !built {
			return nil, dir + ": there is no program of its tests", nil
		}
		if found[dir], why, err = g.profile(ctx, patch, dir, program); err != nil || why != "" {
			return nil, why, err
		}
	}
	return found, "", nil
}

// profile runs one test program and reads what it says that it has executed.
func (g *goTests) profile(ctx context.Context, patch *sandbox.Patch, dir, program string) (s Share, why string, err error) {
	const profile = ".sop-coverage" // no other is in the view
	spec := g.testSpec(patch, dir, program)
	spec.Argv = append(spec.Argv, "-test.coverprofile=/workspace/"+profile)
	out, err := g.work.verifier.Sandbox.Run(ctx, spec)
	if err != nil {
		return Share{}, "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if ok, why := succeeded(&out.Result); !ok {
		return Share{}, fmt.Sprintf("%s: its tests fail while it is measured: %s", dir, why), nil
	}
	file, err := out.Open(profile)
	if errors.Is(err, fs.ErrNotExist) {
		return Share{}, dir + ": its tests do not say what they execute", nil
	}
	if err != nil {
		return Share{}, "", err
	}
	defer file.Close() //nolint:errcheck // only read from
	if s, err = readProfile(file); err != nil {
		return Share{}, fmt.Sprintf("%s: what its tests say that they execute cannot be read: %v", dir, err), nil
	}
	return s, "", nil
}
