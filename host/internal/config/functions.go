package config

import (
	"fmt"
	"path/filepath"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// maxIncludedFile is how many bytes the file function reads at most.
const maxIncludedFile = 1 << 20

// functions returns what expressions may call. Relative paths given to the
// file function start at dir; environ answers env.
func functions(dir string, environ func(string) (string, bool)) map[string]function.Function {
	return map[string]function.Function{
		"chomp":      stdlib.ChompFunc,
		"coalesce":   stdlib.CoalesceFunc,
		"concat":     stdlib.ConcatFunc,
		"contains":   stdlib.ContainsFunc,
		"distinct":   stdlib.DistinctFunc,
		"env":        envFunction(environ),
		"file":       fileFunction(dir),
		"flatten":    stdlib.FlattenFunc,
		"format":     formatFunction(),
		"join":       stdlib.JoinFunc,
		"jsondecode": stdlib.JSONDecodeFunc,
		"jsonencode": stdlib.JSONEncodeFunc,
		"keys":       stdlib.KeysFunc,
		"length":     lengthFunction(),
		"lookup":     stdlib.LookupFunc,
		"lower":      stdlib.LowerFunc,
		"max":        stdlib.MaxFunc,
		"merge":      stdlib.MergeFunc,
		"min":        stdlib.MinFunc,
		"replace":    stdlib.ReplaceFunc,
		"sort":       stdlib.SortFunc,
		"split":      stdlib.SplitFunc,
		"trimprefix": stdlib.TrimPrefixFunc,
		"trimspace":  stdlib.TrimSpaceFunc,
		"trimsuffix": stdlib.TrimSuffixFunc,
		"upper":      stdlib.UpperFunc,
		"values":     stdlib.ValuesFunc,
	}
}

// envFunction returns env(name) and env(name, default). A variable that is set
// to nothing counts as set.
func envFunction(environ func(string) (string, bool)) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, function.NewArgErrorf(2, "env takes a name and at most one default")
			}
			name := args[0].AsString()
			if !environmentName.MatchString(name) {
				return cty.NilVal, function.NewArgErrorf(0, "%q cannot be the name of an environment variable", name)
			}
			if value, set := environ(name); set {
				if !utf8.ValidString(value) {
					return cty.NilVal, fmt.Errorf("the environment variable %s is not valid UTF-8", name)
				}
				return cty.StringVal(value), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, fmt.Errorf("the environment variable %s is not set; set it, or give a default as in env(%q, \"\")", name, name)
		},
	})
}

// fileFunction returns file(path), the text of a file.
func fileFunction(dir string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			if path == "" {
				return cty.NilVal, function.NewArgErrorf(0, "the path is empty")
			}
			absolute := path
			if !filepath.IsAbs(path) {
				absolute = filepath.Join(dir, path)
			}
			content, err := readRegular(absolute, maxIncludedFile)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "cannot read %q: %w", path, err)
			}
			if !utf8.Valid(content) {
				return cty.NilVal, function.NewArgErrorf(0, "cannot read %q: it is not valid UTF-8 text", path)
			}
			return cty.StringVal(string(content)), nil
		},
	})
}

// lengthFunction is the standard length, which also counts the characters of
// text and the attributes of objects.
func lengthFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			value := args[0]
			switch ty := value.Type(); {
			case ty == cty.String:
				return stdlib.Strlen(value)
			case ty.IsObjectType(), ty.IsTupleType(), ty.IsCollectionType():
				return cty.NumberIntVal(int64(value.LengthInt())), nil
			default:
				return cty.NilVal, function.NewArgErrorf(0, "only text, lists and maps have a length")
			}
		},
	})
}

// wideVerb matches a verb of the format function whose width or precision
// would fill the memory.
var wideVerb = newPattern(`%[^A-Za-z%]*\d{4}`)

// formatFunction is the standard format with a bound on widths.
func formatFunction() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "format", Type: cty.String}},
		VarParam: &function.Parameter{Name: "args", Type: cty.DynamicPseudoType, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if wideVerb.MatchString(args[0].AsString()) {
				return cty.NilVal, function.NewArgErrorf(0, "widths and precisions may be at most 999")
			}
			return stdlib.Format(args[0], args[1:]...)
		},
	})
}
