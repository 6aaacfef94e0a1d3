package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// An Input is a file or directory of the host that a run finds, read-only, at
// [Input.Dir]. It must be readable by everybody.
type Input struct{ Name, Path string }

// Dir is where a run finds the input.
func (i Input) Dir() string { return launch.InputDir + "/" + i.Name }

// addInputs puts what a spec adds to its profile into a plan.
func addInputs(p *launch.Plan, spec *Spec, own Places) error {
	if spec.Dir != "" {
		if !filepath.IsLocal(spec.Dir) {
			return fmt.Errorf("the directory %q is not in the workspace", spec.Dir)
		}
		p.Dir = filepath.Join(p.Dir, spec.Dir)
	}
	for _, setting := range spec.Settings {
		name, _, found := strings.Cut(setting, "=")
		if !found || slices.Contains(ownVariables, name) || strings.HasPrefix(name, "LD_") || strings.ContainsRune(setting, 0) {
			return fmt.Errorf("the variable %q is not for a sandbox", name)
		}
		p.Env = append(p.Env, setting)
	}
	if own != builtPlaces && len(spec.Inputs)+len(spec.Protected) > 0 {
		return fmt.Errorf("level %s has no view that inputs or protected files could be shown in", p.Level)
	}
	for _, in := range spec.Inputs {
		if in.Name == "" || in.Name == "." || in.Name == ".." || strings.ContainsAny(in.Name, "/\x00") || !filepath.IsAbs(in.Path) {
			return fmt.Errorf("%q cannot be an input", in.Name)
		}
		p.Mounts = append(p.Mounts, launch.Mount{Tree: launch.Tree{Path: in.Path}, Target: in.Dir()})
	}
	return nil
}

// ownVariables are the sandbox's own, and empty names.
var ownVariables = []string{"", "PATH", "HOME", "TMPDIR"}

// protectedNames writes the names as init reads them, to a file without a name.
func protectedNames(names []string) (*os.File, error) {
	for _, name := range names {
		if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("%q cannot be protected", name)
		}
	}
	file, err := unnamedFile()
	if err != nil {
		return nil, err
	}
	if _, err := file.WriteString(strings.Join(names, "\x00")); err != nil {
		_ = file.Close() // it has no name
		return nil, err
	}
	return file, nil
}
