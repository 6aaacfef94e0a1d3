package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sop-host/sop/plugins/internal/python"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// pythonPass finds public modules, classes and functions without docstring, as
// pydocstyle's D100 to D103 and D106 do: what a leading underscore makes private
// at any level is left out, and so are magic methods, nested functions,
// overloads, overrides, setters and deleters. Every file stands for itself.
func pythonPass(ctx context.Context, scan *detector.Scan, _ *settings) error {
	if !slices.ContainsFunc([]string{rulePythonModule, rulePythonClass, rulePythonFunction}, scan.Enabled) {
		return nil
	}
	match := func(f detector.File) bool {
		if ext := path.Ext(f.Path); ext != ".py" && ext != ".pyw" {
			return false
		}
		if f.Testdata {
			scan.Skip("testdata")
		}
		return !f.Testdata
	}
	return scan.Each(ctx, match, func(src *detector.Source) error { return examinePython(ctx, src) })
}

// examinePython reports what a file lacks.
func examinePython(ctx context.Context, src *detector.Source) error {
	if isPythonTest(src.Path) || !isPublicModule(src.Path) {
		return nil
	}
	file, err := python.Outline(ctx, src.Content)
	var syntax *python.SyntaxError
	switch {
	case errors.As(err, &syntax):
		src.Diagnose(syntax.Line, "PARSE_ERROR", syntax.Message)
		return fmt.Errorf("syntax error: %w", detector.ErrSkipped)
	case errors.Is(err, python.ErrBudget):
		src.Diagnose(0, "PARSE_BUDGET", err.Error())
		return fmt.Errorf("syntax: %w", detector.ErrSkipped)
	case err != nil:
		return err
	}
	if !file.Doc.Present() && !file.Empty && path.Base(src.Path) != "setup.py" {
		src.Report(pythonFinding(rulePythonModule, 1, "module", moduleName(src.Path)))
	}
	for i := range file.Defs {
		d := &file.Defs[i]
		if d.Doc.Present() || !isPublicDef(file, d) {
			continue
		}
		id := rulePythonFunction
		if d.Kind == python.Class {
			id = rulePythonClass
		}
		src.Report(pythonFinding(id, d.Line, d.Kind.String(), d.Qualified))
	}
	return nil
}

// pythonFinding is about one thing without docstring.
func pythonFinding(id string, line int, kind, symbol string) *pluginv1.Finding {
	return &pluginv1.Finding{
		Rule:       id,
		Location:   &pluginv1.Location{Line: int32(line), Symbol: symbol},
		Message:    fmt.Sprintf("Public %s %s has no docstring.", kind, symbol),
		Remedy:     "Write a docstring as its first statement that says what users need to know, or make it private with a leading underscore.",
		Properties: map[string]string{"kind": kind},
	}
}

// isPublicDef says whether d and everything around it is public.
func isPublicDef(file *python.File, d *python.Def) bool {
	if d.Nested || isMagic(d.Name) && d.Kind == python.Method || isExempt(d) {
		return false
	}
	for {
		if !isPublicName(d.Name) {
			return false
		}
		if d.Parent < 0 {
			return true
		}
		d = &file.Defs[d.Parent]
	}
}

// isExempt says whether a decorator makes d part of something that is
// documented elsewhere.
func isExempt(d *python.Def) bool {
	return slices.ContainsFunc(d.Decorators, func(decorator string) bool {
		last := decorator[strings.LastIndexByte(decorator, '.')+1:]
		return last == "overload" || last == "override" ||
			decorator == d.Name+".setter" || decorator == d.Name+".deleter"
	})
}

// isMagic says whether a name has two underscores on both sides.
func isMagic(name string) bool {
	return len(name) > 4 && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__")
}

func isPublicName(name string) bool { return !strings.HasPrefix(name, "_") || isMagic(name) }

// isPublicModule says whether neither the module nor a package around it is
// private.
func isPublicModule(name string) bool {
	for part := range strings.SplitSeq(strings.TrimSuffix(name, path.Ext(name)), "/") {
		if !isPublicName(part) {
			return false
		}
	}
	return true
}

// moduleName is that of the module, or of the package whose initialiser it is.
func moduleName(name string) string {
	stem := strings.TrimSuffix(path.Base(name), path.Ext(name))
	if stem == "__init__" && path.Dir(name) != "." {
		return path.Base(path.Dir(name))
	}
	return stem
}

// isPythonTest says whether a file holds tests, by its name or a directory's.
func isPythonTest(name string) bool {
	dir, base := path.Split(name)
	stem := strings.TrimSuffix(base, path.Ext(base))
	return strings.HasPrefix(stem, "test_") || strings.HasSuffix(stem, "_test") || stem == "conftest" ||
		slices.ContainsFunc(strings.Split(dir, "/"), func(d string) bool { return d == "tests" || d == "test" })
}
