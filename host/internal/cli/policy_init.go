//go:build !front

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/sdk"
)

type policyInitOptions struct{ *app }

func (a *app) newPolicyInitCommand() *cobra.Command {
	o := policyInitOptions{a}
	return &cobra.Command{
		Use:     "init [DIR]",
		Short:   "Write the default policies as files to start from",
		Long:    "Write the default policies to a directory (default policies). Nothing is overwritten. They come into force when the configuration names the directory.",
		Example: "  sop policy init policies",
		Args:    arguments(0, 1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "policies"
			if len(args) > 0 {
				dir = args[0]
			}
			return o.run(dir)
		},
	}
}

func (o policyInitOptions) run(dir string) error {
	files := o.engine.DefaultPolicies()
	names := slices.Sorted(maps.Keys(files))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return here(err)
	}
	for _, name := range names {
		if err := writeNew(filepath.Join(dir, name), files[name]); err != nil {
			return err
		}
	}
	if o.json() {
		return printJSON(o.Out, map[string]any{"dir": dir, "files": names})
	}
	for _, name := range names {
		o.say("%s\n", term.Safe(filepath.Join(dir, name)))
	}
	o.note("put `policy { dir = %q }` into the configuration, and check them with `sop policy validate %s`\n", dir, term.Safe(dir))
	return nil
}

// writeNew writes a file that must not be there.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return sdk.Errorf(codes.FailedPrecondition, "FILE_EXISTS", "%s is there already", path).WithRemedy("name another directory; nothing is overwritten")
	}
	if err != nil {
		return here(err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return here(fmt.Errorf("write %s: %w", path, err))
	}
	return nil
}
