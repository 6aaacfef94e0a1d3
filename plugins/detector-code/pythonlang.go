package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/sop-host/sop/plugins/internal/python"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// examinePython looks for everything in a Python file.
func examinePython(ctx context.Context, r *report) error {
	file, err := python.Outline(ctx, r.src.Content)
	var syntax *python.SyntaxError
	switch {
	case errors.As(err, &syntax):
		r.src.Diagnose(syntax.Line, "PARSE_ERROR", syntax.Message)
		return fmt.Errorf("parse: %w", detector.ErrSkipped)
	case errors.Is(err, python.ErrBudget):
		r.src.Diagnose(0, "PARSE_BUDGET", err.Error())
		return fmt.Errorf("parse: %w", detector.ErrSkipped)
	case err != nil:
		return err
	}
	comments := file.Comments
	if !r.set.markers.in(r.src.Content) {
		comments = nil
	}
	for _, c := range comments {
		r.comment(c.Line, r.src.Content[c.Start:c.End], func(line int) string { return pythonSymbol(file, line) })
	}
	if !r.functions {
		return nil
	}
	stubs := pythonStubs{file: file, interfaces: path.Ext(r.src.Path) == ".pyi"}
	for i := range file.Defs {
		d := &file.Defs[i]
		if d.Kind == python.Class {
			continue
		}
		if how, confidence := stubs.judge(d); how != "" {
			r.stub(d.Line, d.Qualified, d.Kind.String(), how, confidence)
		}
		if !d.Nested {
			r.complexity(d.Line, d.Qualified, d.Kind.String(), d.Complexity)
		}
	}
	return nil
}

// pythonSymbol names the function around a line, or the class.
func pythonSymbol(file *python.File, line int) string {
	if d := file.Enclosing(line); d != nil {
		return d.Qualified
	}
	return ""
}

// pythonStubs judges the functions of one file.
type pythonStubs struct {
	file *python.File
	// interfaces says that the file declares and does not implement.
	interfaces bool
	// Made by index when first needed: the methods there are, and the classes
	// that derive from a name.
	methods map[pythonMethod]bool
	derived map[string][]int
}

// pythonMethod is a method by its class's index.
type pythonMethod struct {
	class int
	name  string
}

// judge says what a function does instead of its work, or nothing.
func (s *pythonStubs) judge(d *python.Def) (string, pluginv1.Confidence) {
	if s.interfaces || d.TypeChecking || s.declared(d) {
		return "", 0
	}
	switch d.Body {
	case python.OnlyNotImplemented:
		if s.overridden(d) {
			return "", 0
		}
		return "it only raises NotImplementedError", pluginv1.Confidence_CONFIDENCE_HIGH
	case python.OnlyPass:
		return "its body is only `pass`", pluginv1.Confidence_CONFIDENCE_MEDIUM
	case python.OnlyEllipsis:
		return "its body is only `...`", pluginv1.Confidence_CONFIDENCE_MEDIUM
	}
	return "", 0
}

// declared says whether a function is there for its signature: an abstract
// method, an overload, or a member of a protocol.
func (s *pythonStubs) declared(d *python.Def) bool {
	for _, decorator := range d.Decorators {
		last := lastName(decorator)
		if strings.HasPrefix(last, "abstract") || last == "overload" {
			return true
		}
	}
	if d.Parent < 0 {
		return false
	}
	for _, base := range s.file.Defs[d.Parent].Bases {
		if lastName(base) == "Protocol" {
			return true
		}
	}
	return false
}

// overridden says whether a class of this file that derives from the method's
// has a method of that name.
func (s *pythonStubs) overridden(d *python.Def) bool {
	if d.Kind != python.Method {
		return false
	}
	if s.methods == nil {
		s.index()
	}
	seen := map[string]bool{}
	for next := []string{s.file.Defs[d.Parent].Name}; len(next) > 0; next = next[1:] {
		if seen[next[0]] {
			continue
		}
		seen[next[0]] = true
		for _, class := range s.derived[next[0]] {
			if s.methods[pythonMethod{class, d.Name}] {
				return true
			}
			next = append(next, s.file.Defs[class].Name)
		}
	}
	return false
}

// index makes what overridden looks up.
func (s *pythonStubs) index() {
	s.methods, s.derived = make(map[pythonMethod]bool), make(map[string][]int)
	for i := range s.file.Defs {
		switch d := &s.file.Defs[i]; d.Kind {
		case python.Method:
			s.methods[pythonMethod{d.Parent, d.Name}] = true
		case python.Class:
			for _, base := range d.Bases {
				s.derived[lastName(base)] = append(s.derived[lastName(base)], i)
			}
		}
	}
}

func lastName(dotted string) string { return dotted[strings.LastIndexByte(dotted, '.')+1:] }
