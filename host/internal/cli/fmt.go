//go:build !front

package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/config"
)

type fmtOptions struct {
	*app
	check, diff, write bool
	paths              []string
}

func (a *app) newFmtCommand() *cobra.Command {
	o := &fmtOptions{app: a}
	cmd := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Lay configuration files out in the usual way",
		Long: `Lay configuration files out in the usual way and name those that changed. Only white space changes. PATH is a file, a
directory of *.hcl files, or - for standard input; without one it is the configuration.`,
		Example:     "  sop fmt\n  sop fmt --check --diff   # for CI: writes nothing, exit 3 when a file is not laid out\n  sop fmt - < config.hcl",
		Annotations: exits("3"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.paths = args
			return o.run()
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 3 when a file would change")
	cmd.Flags().BoolVar(&o.diff, "diff", false, "show what changes")
	cmd.Flags().BoolVar(&o.write, "write", true, "write the files")
	return cmd
}

// formatted is what became of one file.
type formatted struct {
	name        string
	old, new    []byte
	diagnostics config.Diagnostics
}

func (f formatted) changed() bool { return f.new != nil && !bytes.Equal(f.old, f.new) }

func (o *fmtOptions) run() error {
	files, err := o.files()
	if err != nil {
		return err
	}
	var all config.Diagnostics
	var changed []string
	for _, name := range files {
		f, err := o.format(name)
		if err != nil {
			return err
		}
		all = append(all, f.diagnostics...)
		if f.changed() {
			changed = append(changed, name)
		}
		if err := o.emit(f); err != nil {
			return err
		}
	}
	return o.conclude(changed, all)
}

func (o *fmtOptions) files() ([]string, error) {
	paths := o.paths
	if len(paths) == 0 {
		if err := o.requireConfig(); err != nil {
			return nil, err
		}
		paths = []string{o.configPath()}
	}
	var files []string
	for _, path := range paths {
		if path == "-" && len(paths) > 1 {
			return nil, usagef("standard input cannot be mixed with files")
		}
		files = append(files, configFiles(path)...)
	}
	return files, nil
}

func (o *fmtOptions) format(name string) (formatted, error) {
	f := formatted{name: name}
	var err error
	if name == "-" {
		f.old, err = io.ReadAll(o.In)
	} else {
		f.old, err = os.ReadFile(name)
	}
	if err != nil {
		return f, err
	}
	f.new, f.diagnostics = config.Format(f.old, name)
	return f, nil
}

// emit shows and writes one file as the flags say.
func (o *fmtOptions) emit(f formatted) error {
	if f.name == "-" && !o.check && !o.diff {
		_, err := o.Out.Write(f.new)
		return err
	}
	if !f.changed() {
		return nil
	}
	if o.diff && !o.json() {
		text := diff.Diff(f.name, f.old, f.name+" (formatted)", f.new)
		if _, err := io.WriteString(o.Out, term.SafeLines(string(text))); err != nil {
			return err
		}
	}
	if o.check || o.diff || !o.write || f.name == "-" {
		return nil
	}
	return replaceFile(f.name, f.new)
}

func (o *fmtOptions) conclude(changed []string, diagnostics config.Diagnostics) error {
	if err := diagnostics.Err(); err != nil {
		return err
	}
	if err := o.name(changed); err != nil {
		return err
	}
	if o.check && len(changed) > 0 {
		return exitError(exitPending)
	}
	return nil
}

func (o *fmtOptions) name(changed []string) error {
	if o.json() {
		return printJSON(o.Out, map[string][]string{"changed": append([]string{}, changed...)})
	}
	for _, name := range changed {
		if name == "-" || o.diff {
			continue
		}
		o.say("%s\n", term.Safe(name))
	}
	return nil
}

// replaceFile puts content in place of a file at once, so that nobody reads
// half of it. A symbolic link stays one; the file's mode is kept.
func replaceFile(path string, content []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(info.Mode().Perm()), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
