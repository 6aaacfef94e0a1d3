package scaffold

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed new.tmpl
var newSource string

//go:embed new.txtar
var newExample string

// New returns the files of a scaffold to begin with, by their names in its
// directory; the scaffold is valid and its example holds.
func New(name string) (map[string][]byte, error) {
	if !scaffoldName.MatchString(name) {
		return nil, fmt.Errorf("the name %q is not lower-case letters, digits and hyphens", name)
	}
	return map[string][]byte{
		FileName:      []byte(strings.ReplaceAll(newSource, "NAME", name)),
		"first.txtar": []byte(strings.ReplaceAll(newExample, "NAME", name)),
	}, nil
}
