package scaffold

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sop-host/sop/sdk/scaffold/internal/pysrc"
)

// zeroOf are values of Python's own types.
var zeroOf = map[string]string{
	"int": "0", "float": "0.0", "str": `""`, "bool": "False", "bytes": `b""`, "list": "[]", "dict": "{}", "tuple": "()", "set": "set()", "None": "None",
}

// pythonTest writes a new unittest file that calls the function of the gap with
// an empty value for each parameter without default.
func pythonTest(j *job) ([]Change, error) {
	f, err := j.parsedPython(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(f.Defs, func(d *pysrc.Def) bool {
		return j.Gap.Symbol == d.Qualified || j.Gap.Symbol == "" && j.Gap.Line == d.Line
	})
	if i < 0 {
		return nil, refuse("%s defines no %s", j.Gap.Path, orLine(j.Gap))
	}
	d := f.Defs[i]
	if d.Class || d.Parent != nil {
		return nil, refuse("%s is no function of the module: a test of it needs an object that only a person can make", d.Qualified)
	}
	arguments, err := callWith(d)
	if err != nil {
		return nil, err
	}
	name := path.Join(path.Dir(j.Gap.Path), "test_"+path.Base(j.Gap.Path))
	if has(j.Tree, name) {
		content, err := j.Tree.Read(name)
		if err == nil && bytes.Contains(content, []byte(d.Name+"(")) {
			return nil, fmt.Errorf("%s calls %s: %w", name, d.Name, ErrNothing)
		}
		name = path.Join(path.Dir(j.Gap.Path), "test_"+strings.TrimSuffix(path.Base(j.Gap.Path), path.Ext(j.Gap.Path))+"_"+d.Name+".py")
		if has(j.Tree, name) {
			return nil, fmt.Errorf("there is %s: %w", name, ErrNothing)
		}
	}
	data := j.data()
	data.Python = describePython(d)
	data.Python.Classes = []string{strings.TrimSuffix(path.Base(j.Gap.Path), path.Ext(j.Gap.Path))}
	data.Python.Attributes = arguments
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	return []Change{{Path: name, Content: []byte(text + "\n")}}, nil
}

// callWith lists the arguments to call d with.
func callWith(d *pysrc.Def) ([]string, error) {
	if d.PositionalOnly {
		return nil, refuse("%s takes parameters that cannot be named", d.Name)
	}
	var out []string
	for _, p := range d.Parameters {
		if p.Default != "" || strings.HasPrefix(p.Name, "*") {
			continue
		}
		generic, _, _ := strings.Cut(strings.Trim(p.Annotation, `"'`), "[")
		value, ok := zeroOf[generic]
		switch {
		case generic == "Optional" || strings.HasSuffix(p.Annotation, "| None"):
			value, ok = "None", true
		case generic == "List":
			value, ok = "[]", true
		case generic == "Dict":
			value, ok = "{}", true
		}
		if !ok {
			return nil, refuse("%s: nothing says which value its parameter %s takes", d.Name, p.Name)
		}
		out = append(out, p.Name+"="+value)
	}
	return out, nil
}
